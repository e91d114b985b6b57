//! What a model is computed from, as the supervisor sees it: its files, and those settings that
//! change the bits of an answer.
//!
//! Files are compared by device, inode, length and time of change, and never read. It is looked
//! before and after a template loads; if both are the same, that is what it has loaded.
use ipc::{ModelSource, ModelSpec};
use policy::Identity;
use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
};
use system::files;

/// Most files of a folder that are looked at.
const MOST_FILES: usize = ipc::MOST_PARTS + 1;
/// How many folders lie in each other.
const DEPTH: usize = 3;

/// What a template would load now.
pub(crate) fn now(spec: &ModelSpec) -> Identity {
    // It has no keys, so that the same is the same as long as the supervisor runs.
    let mut state = DefaultHasher::new();
    (&spec.source, spec.context, &spec.sha256, spec.precision as u8).hash(&mut state);
    let mut left = MOST_FILES;
    match &spec.source {
        ModelSource::BuiltIn { .. } => {}
        ModelSource::Folder(path) => note(path, DEPTH, &mut left, &mut state),
        ModelSource::File(path) => {
            note(path, DEPTH, &mut left, &mut state);
            for part in ipc::split_parts(path) {
                note(&part, 0, &mut left, &mut state);
            }
            // It is used instead of the file's own rules.
            note(&path.with_file_name("tokenizer.json"), 0, &mut left, &mut state);
        }
    }
    Identity(state.finish())
}

/// Notes what lies at `path`, and in a folder what lies in there.
fn note(path: &Path, depth: usize, left: &mut usize, state: &mut impl Hasher) {
    let Some(rest) = left.checked_sub(1) else { return };
    *left = rest;
    let found = fs::metadata(path).ok();
    // A folder changes when anything is put there.
    let file = found.as_ref().filter(|about| !about.is_dir());
    (found.is_some(), file.map(files::identity)).hash(state);
    if depth > 0 && found.is_some_and(|about| about.is_dir()) {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).take(MOST_FILES).collect();
        names.retain(|name| !name.as_encoded_bytes().starts_with(b"."));
        names.sort_unstable();
        for name in names {
            name.hash(state);
            note(&path.join(name), depth - 1, left, state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn of(path: &Path) -> Identity {
        now(&ModelSpec::new("x", path.display().to_string()))
    }

    #[test]
    fn another_file_at_the_same_path_is_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let [path, other] = ["model.gguf", "other.gguf"].map(|name| folder.path().join(name));
        let missing = of(&path);
        fs::write(&path, "weights").unwrap();
        let first = of(&path);
        assert_ne!(missing, first);
        assert_eq!(first, of(&path));
        fs::write(&other, "weights").unwrap();
        assert_eq!(first, of(&path), "what lies beside it is of no concern");
        fs::rename(&other, &path).unwrap();
        let second = of(&path);
        assert_ne!(first, second, "another inode");
        File::options().append(true).open(&path).unwrap().set_len(3).unwrap();
        let third = of(&path);
        assert_ne!(second, third, "another length");
        fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
        assert_ne!(third, of(&path), "but a tokenizer is used");
    }

    #[test]
    fn each_part_of_a_split_model_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: u32| folder.path().join(format!("model-0000{number}-of-00003.gguf"));
        fs::write(path(1), "weights").unwrap();
        let alone = of(&path(1));
        fs::write(path(3), "weights").unwrap();
        let third = of(&path(1));
        assert_ne!(alone, third);
        fs::write(path(2), "weights").unwrap();
        let all = of(&path(1));
        assert_ne!(third, all);
        fs::write(path(2), "other weights").unwrap();
        assert_ne!(all, of(&path(1)));
        let (second, last) = (of(&path(2)), of(&path(3)));
        fs::write(path(1), "other weights").unwrap();
        assert_eq!((of(&path(2)), of(&path(3))), (second, last), "only the first has others");
    }

    #[test]
    fn a_folder_is_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("1_Pooling");
        fs::create_dir(&inner).unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        let first = of(folder.path());
        fs::write(folder.path().join(".lock"), "").unwrap();
        assert_eq!(first, of(folder.path()));
        fs::write(inner.join("config.json"), "{}").unwrap();
        let second = of(folder.path());
        assert_ne!(first, second);
        fs::rename(inner, folder.path().join("2_Pooling")).unwrap();
        assert_ne!(second, of(folder.path()));
    }

    #[test]
    fn what_changes_the_bits_of_an_answer_counts_and_nothing_else() {
        let spec = ModelSpec::new("x", "builtin:pocket");
        assert_eq!(now(&spec), now(&ModelSpec { name: "y".into(), threads: 9, ..spec.clone() }));
        assert_ne!(now(&spec), now(&ModelSpec { context: Some(100), ..spec.clone() }));
        assert_ne!(now(&spec), now(&ModelSpec { precision: ipc::Precision::Int8, ..spec.clone() }));
        assert_ne!(now(&spec), now(&ModelSpec::new("x", "builtin:echo")));
    }
}
