//! Headers that are right, and those that lie.
use super::{
    build::{Gguf, read, string},
    *,
};

fn refused(result: Result<Header, GgufError>) -> String {
    system::foreign_text::chain(&result.err().unwrap())
}

#[test]
fn values_and_tensors_are_read() {
    let file = Gguf::new()
        .text("text", "hello\0")
        .value("byte", 1, &[0xFF])
        .value("large", 10, &u64::MAX.to_le_bytes())
        .float("float", 0.5)
        .flag("flag", true)
        .texts("texts", &["a", ""])
        .integers("integers", &[1, -2])
        .floats(SCORES, &[0.5, -1.0])
        .floats("frequencies", &[0.5])
        .list("lists", 9, 2, &[[8, 0, 0, 0].as_slice(), &1_u64.to_le_bytes(), &string("x"), &[0; 12]].concat())
        .unsigned("general.alignment", 64)
        .tensor_at("one", &[32, 2], 8, 64);
    let header = read(&file.bytes(1000)).unwrap();
    assert_eq!(header.text("text").unwrap(), Some("hello"));
    assert_eq!(header.unsigned("large").unwrap(), Some(u64::MAX));
    assert_eq!(header.float("float").unwrap(), Some(0.5));
    assert_eq!(header.flag("flag").unwrap(), Some(true));
    assert_eq!(header.texts("texts").unwrap(), Some(&["a".to_owned(), String::new()][..]));
    assert_eq!(header.integers("integers").unwrap(), Some(&[1, -2][..]));
    assert_eq!(header.floats(SCORES).unwrap(), Some(&[0.5, -1.0][..]));
    assert!(header.floats("frequencies").is_err(), "only the scores are kept");
    assert_eq!(header.text("nothing").unwrap(), None);
    let tensor = Tensor { dimensions: vec![32, 2], kind: 8, offset: 64 };
    assert_eq!(header.tensors["one"], tensor);
    assert_eq!(tensor.size(GgmlDType::Q8_0), Some(68));
    assert_eq!(header.data % 64, 0);
    let wrong = |error: GgufError| error.to_string();
    assert_eq!(wrong(header.text("float").unwrap_err()), "its float is not a text");
    assert_eq!(wrong(header.unsigned("byte").unwrap_err()), "its byte is not a whole number from 0");
    assert_eq!(wrong(header.texts("lists").unwrap_err()), "its lists is not a list of texts");
}

#[test]
fn what_is_no_gguf_is_called_that() {
    assert_eq!(refused(read(b"")), "it is empty; download it again");
    assert_eq!(refused(read(b"GG")), "it is not a GGUF file");
    assert_eq!(refused(read(b"Dear model")), "it is not a GGUF file");
    for (begin, sentence) in [
        (&b"<!DOCTYPE html>"[..], "it is a web page (HTML), "),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer, not the file itself; git lfs pull "),
        (b"\x10\0\0\0\0\0\0\0{\"__metadata__\":", "it is a safetensors file; "),
        (b"PK\x03\x04aaaa", "it is a zip archive, "),
        (b"\x80\x02aaaa", "it is a Python pickle, "),
    ] {
        assert!(refused(read(begin)).starts_with(sentence), "{}", refused(read(begin)));
    }
    assert_eq!(refused(read(b"GGUF\x01\0\0\0")), "it is GGUF version 1, and only 2 and 3 can be read");
    assert_eq!(refused(read(b"GGUF\x03")), "it is truncated: the version needs 4 bytes, and 1 are left");
}

#[test]
fn a_file_with_its_bytes_in_the_other_order_is_called_that() {
    for version in [2_u32, 3] {
        let file = [&b"GGUF"[..], &version.to_be_bytes(), &[0; 16]].concat();
        assert!(refused(read(&file)).starts_with("it is a big-endian file, and only little-endian ones can be read; "));
    }
}

#[test]
fn what_is_named_twice_is_refused() {
    let once = Gguf::new().text("a", "x").unsigned("b", 1);
    assert!(once.header().is_ok());
    let mut twice = once.bytes(0);
    let b = twice.windows(9).position(|window| window == string("b")).unwrap();
    twice[b + 8] = b'a';
    assert_eq!(refused(read(&twice)), "it has two values of a");
    // A zero at the end belongs to no name.
    let tensors = |second| Gguf::new().tensor("t", &[1], 0).tensor_at(second, &[2], 0, 32).bytes(64);
    for second in ["t", "t\0"] {
        assert_eq!(refused(read(&tensors(second))), "it has two tensors named t");
    }
    assert!(read(&tensors("T")).is_ok());
}

#[test]
fn tensors_do_not_lie_over_one_another() {
    let two = |offset| read(&Gguf::new().tensor("a", &[16], 0).tensor_at("b", &[8], 0, offset).bytes(128));
    assert!(two(64).is_ok() && two(96).is_ok());
    assert_eq!(refused(two(32)), "its tensor b begins within its tensor a");
    assert_eq!(refused(two(0)), "its tensor b begins within its tensor a");
    assert_eq!(refused(two(65)), "its tensor b begins at 65, which is no multiple of its alignment, 32");
    let wide = Gguf::new().unsigned("general.alignment", 64).tensor_at("a", &[8], 0, 32);
    assert_eq!(refused(read(&wide.bytes(128))), "its tensor a begins at 32, which is no multiple of its alignment, 64");
}

#[test]
fn the_first_tensor_that_is_cut_off_is_named() {
    // In the order of their places, not of their names or of the list.
    let file = Gguf::new().tensor_at("a", &[8], 0, 96).tensor("b", &[8], 0).tensor_at("c", &[8], 0, 64);
    let file = file.tensor_at("d", &[8], 0, 32);
    for (data, name) in [(0, "b"), (31, "b"), (32, "d"), (70, "c"), (127, "a")] {
        for _ in 0..10 {
            let error = refused(read(&file.bytes(data)));
            assert!(error.starts_with(&format!("it is truncated: up to tensor {name}, the data needs ")), "{error}");
        }
    }
    assert!(read(&file.bytes(128)).is_ok());
}

#[test]
fn a_file_cut_anywhere_is_truncated() {
    let file = Gguf::new().text("key", "value").integers("list", &[1, 2]).tensor("tensor", &[32], 0);
    let bytes = file.bytes(128);
    assert!(read(&bytes).is_ok());
    for length in 4..bytes.len() {
        let error = refused(read(&bytes[..length]));
        assert!(error.starts_with("it is truncated: "), "{length}: {error}");
    }
}

#[test]
fn no_count_is_believed() {
    let mut tensors = Gguf::new().bytes(0);
    tensors[8..16].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    assert!(refused(read(&tensors)).starts_with("it is truncated: the list of tensors needs 1"));
    let mut values = Gguf::new().bytes(0);
    values[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refused(read(&values)).starts_with("it is truncated: the list of values needs 1"));
    for kind in [0, 1, 2, 5, 7, 8, 9, 11] {
        let list = Gguf::new().list("list", kind, 1 << 60, &[]).header();
        assert!(refused(list).starts_with("it is truncated: list needs "), "{kind}");
    }
    let text = Gguf::new().value("text", 8, &(1_u64 << 40).to_le_bytes()).header();
    assert!(refused(text).starts_with("it is truncated: text needs 1099511627776 bytes, and "));
}

#[test]
fn whatever_a_file_says_is_fit_for_a_sentence() {
    let name = format!("a\n\u{1b}[31m{}", "x".repeat(1 << 20));
    let error = refused(Gguf::new().value(&name, 13, &[]).header());
    let shown = format!("a\\n\\u{{1b}}[31m{}...", "x".repeat(57));
    assert_eq!(error, format!("the value of {shown} has a form that GGUF does not have"));
}

#[test]
fn lists_of_lists_of_lists_come_to_an_end() {
    let mut value = Vec::new();
    for _ in 0..10_000 {
        value.extend(9_u32.to_le_bytes());
        value.extend(1_u64.to_le_bytes());
    }
    let deep = Gguf::new().value("deep", 9, &value).header();
    assert_eq!(refused(deep), "the value of deep has a form that GGUF does not have");
    let unknown = Gguf::new().value("odd", 13, &[0; 8]).header();
    assert_eq!(refused(unknown), "the value of odd has a form that GGUF does not have");
}

#[test]
fn an_alignment_that_is_none_is_refused() {
    for alignment in [0, 3, 33, 1 << 31] {
        let error = refused(Gguf::new().unsigned("general.alignment", alignment).header());
        assert_eq!(error, format!("its alignment is {alignment}, which is no power of two"));
    }
}

#[test]
fn a_tensor_lies_in_the_file() {
    let sized = |dimensions: &[u64], kind, offset| {
        read(&Gguf::new().tensor_at("t", dimensions, kind, offset).bytes(256)).map(drop)
    };
    assert!(sized(&[64], 0, 0).is_ok());
    let error = system::foreign_text::chain(&sized(&[64], 0, 32).unwrap_err());
    assert_eq!(error, "it is truncated: up to tensor t, the data needs 288 bytes, and 256 are left");
    for (dimensions, offset) in [
        (&[1 << 32, 1 << 32][..], 0),
        (&[u64::MAX][..], 0),
        (&[u64::MAX / 2, 3][..], 0),
        (&[64][..], u64::MAX - 31),
        (&[1; 5][..], 0),
    ] {
        let error = system::foreign_text::chain(&sized(dimensions, 0, offset).unwrap_err());
        assert_eq!(error, "its tensor t has an impossible shape", "{dimensions:?}");
    }
    // A row of a third of a block.
    assert_eq!(
        system::foreign_text::chain(&sized(&[12, 8], 8, 0).unwrap_err()),
        "its tensor t has an impossible shape"
    );
    // Of a type that is not known here nobody can say how long it is.
    assert!(sized(&[u64::MAX, 2], 99, 0).is_ok());
}
