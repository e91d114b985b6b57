//! Vectors against the reference.
use super::{
    embed,
    folder::{Folder, WORDS, load},
    reference::{gelu, gelu_tanh, mean, normalised, relu, rows},
};
use half::{bf16, f16};
use ipc::Precision;
use safetensors::Dtype;
use serde_json::{Value, json};

/// Texts of many lengths: less and more than a tile of rows, a vector, the rows of scores that are
/// kept at once.
fn texts() -> Vec<Vec<u32>> {
    let text = |length: usize| (0..length).map(|at| ((at * 7 + length) % WORDS.len()) as u32).collect();
    [1, 2, 3, 5, 6, 7, 13, 16, 17, 47, 48, 49, 97, 140].map(text).into()
}

fn check(folder: &Folder, expected: impl Fn(&[u32]) -> Vec<f64>, most: f64) {
    let vectors = embed(&mut folder.load(), &texts());
    assert_eq!(vectors.len(), texts().len());
    for (text, vector) in texts().iter().zip(vectors) {
        let expected = expected(text);
        assert_eq!(vector.len(), expected.len());
        let wrong = vector.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(wrong < most, "{wrong} for {} tokens", text.len());
    }
}

#[test]
fn the_mean_is_normalised_if_the_folder_says_so() {
    let folder = Folder::new();
    check(&folder, |text| normalised(&mean(&rows(&folder, text, gelu))), 1e-6);
    let mut plain = folder.clone();
    plain.files.get_mut("modules.json").unwrap().as_array_mut().unwrap().pop();
    check(&plain, |text| mean(&rows(&folder, text, gelu)), 1e-5);
    // A folder of only a BERT.
    let bare = folder.clone().file("modules.json", Value::Null).file("1_Pooling/config.json", Value::Null);
    check(&bare, |text| normalised(&mean(&rows(&folder, text, gelu))), 1e-6);
}

#[test]
fn the_first_token_stands_for_all_if_the_folder_says_so() {
    let old = json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false});
    for pooling in [old, json!({"pooling_mode": "cls", "include_prompt": true})] {
        let folder = Folder::new().file("1_Pooling/config.json", pooling);
        check(&folder, |text| normalised(&rows(&folder, text, gelu)[0]), 1e-6);
    }
}

#[test]
fn each_activation_is_its_formula() {
    for (name, formula) in
        [("gelu", gelu as fn(f64) -> f64), ("gelu_new", gelu_tanh), ("gelu_pytorch_tanh", gelu_tanh), ("relu", relu)]
    {
        // Large weights, so that values reach where the formulas are flat and where they differ
        // most.
        let mut folder = Folder::new().with("config.json", "hidden_act", json!(name));
        folder
            .tensors
            .get_mut("encoder.layer.0.intermediate.dense.weight")
            .unwrap()
            .1
            .iter_mut()
            .for_each(|x| *x *= 8.0);
        check(&folder, |text| normalised(&mean(&rows(&folder, text, formula))), 1e-6);
    }
}

#[test]
fn weights_are_of_three_types_and_under_two_names() {
    let exact = Folder::new();
    for (dtype, prefix) in [(Dtype::F32, "bert."), (Dtype::F16, ""), (Dtype::BF16, "bert.")] {
        let mut folder = Folder { dtype, prefix, ..exact.clone() };
        let written = folder.clone();
        for value in folder.tensors.values_mut().flat_map(|(_, values)| values) {
            *value = match dtype {
                Dtype::F16 => f16::from_f32(*value).to_f32(),
                Dtype::BF16 => bf16::from_f32(*value).to_f32(),
                _ => *value,
            };
        }
        check(&written, |text| normalised(&mean(&rows(&folder, text, gelu))), 1e-6);
    }
}

#[test]
fn the_old_names_of_a_normalisation_are_known() {
    let mut folder = Folder::new();
    folder.tensors = folder
        .tensors
        .into_iter()
        .map(|(name, tensor)| {
            (name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"), tensor)
        })
        .collect();
    let expected = Folder::new();
    check(&folder, |text| normalised(&mean(&rows(&expected, text, gelu))), 1e-6);
}

#[test]
fn eight_bits_are_nearly_as_good() {
    let folder = Folder::new();
    let written = folder.write();
    let mut bert = load(written.path(), |spec| spec.precision = Precision::Int8).unwrap();
    for (text, vector) in texts().iter().zip(embed(&mut bert, &texts())) {
        let expected = normalised(&mean(&rows(&folder, text, gelu)));
        let cosine: f64 = vector.iter().zip(expected).map(|(a, b)| f64::from(*a) * b).sum();
        assert!((0.999..0.999_999_9).contains(&cosine), "{cosine} for {} tokens", text.len());
    }
}

#[test]
fn a_text_has_the_same_vector_in_every_company_and_after_any_other() {
    let mut bert = Folder::new().load();
    let together = embed(&mut bert, &texts());
    for (text, vector) in texts().into_iter().zip(together).rev() {
        assert_eq!(embed(&mut bert, &[text]), [vector]);
    }
    assert!(embed(&mut bert, &[]).is_empty());
}
