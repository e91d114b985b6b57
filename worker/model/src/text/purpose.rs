//! GGUF files that lie beside models and are none: what they are, and what to do instead.
use crate::gguf::{GgufError, Header};

/// What the file is, if it is for something else than to be served.
pub(super) fn other_than_a_model(header: &Header) -> Result<Option<&'static str>, GgufError> {
    let text = |key| Ok::<_, GgufError>(header.text(key)?.unwrap_or_default());
    Ok(match (text("general.type")?, text("general.architecture")?) {
        ("adapter", _) => Some(
            "a LoRA adapter, which changes a model and is none; merge it into its base model (llama-export-lora does) and \
             name the result",
        ),
        ("mmproj", _) | (_, "clip") => Some(
            "the projector (mmproj) of a model that sees or hears, and no model; name the file of the model itself",
        ),
        ("imatrix", _) => Some(
            "an importance matrix, which is for quantising a model, and no model; name the file of the model itself",
        ),
        (_, "controlvector") => {
            Some("a control vector, which changes a model and is none; name the file of the model itself")
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::build::Gguf;

    #[test]
    fn what_is_no_model_is_called_what_it_is() {
        for (kind, architecture, word) in [
            ("adapter", "llama", Some("LoRA adapter")),
            ("mmproj", "clip", Some("mmproj")),
            ("mmproj", "llama", Some("mmproj")),
            ("", "clip", Some("mmproj")),
            ("model", "clip", Some("mmproj")),
            ("imatrix", "", Some("importance matrix")),
            ("", "controlvector", Some("control vector")),
            ("model", "llama", None),
            ("", "llama", None),
            ("something new", "llama", None),
        ] {
            let file = Gguf::new().text("general.type", kind).text("general.architecture", architecture);
            let found = other_than_a_model(&file.header().unwrap()).unwrap();
            assert_eq!(found.is_some(), word.is_some(), "{kind} {architecture}");
            assert!(found.unwrap_or_default().contains(word.unwrap_or_default()), "{found:?}");
        }
        assert_eq!(other_than_a_model(&Gguf::new().header().unwrap()).unwrap(), None);
    }
}
