//! Models that are imported, listed, chosen and checked.

use std::fs;

use zimage_store::{Error, Import, Name, Verdict, components};
use zimage_weights::Component;

use crate::{Machine, copy, deaf, golden, names};

const VAE: &str = "models/tiny-a/vae/diffusion_pytorch_model.safetensors";

fn import(path: &std::path::Path, name: &str) -> Import {
    Import { path: path.to_path_buf(), name: Some(Name::new(name).unwrap()), copy: false }
}

#[test]
fn an_empty_home_has_no_models() {
    let store = Machine::new().store();
    assert!(store.models().unwrap().is_empty());
    assert_eq!(store.active().unwrap(), None);
    let error = store.find("x").unwrap_err().to_string();
    assert!(error.contains("zimage models pull Tongyi-MAI/Z-Image-Turbo"), "{error}");
}

#[test]
fn what_a_user_puts_into_the_models_directory_is_a_model() {
    let machine = Machine::new();
    copy(&golden("models/tiny-a"), &machine.path("home/models/mine"));
    copy(&golden(VAE), &machine.path("home/models/ae.safetensors"));
    copy(&golden("models/tiny-a/vae/config.json"), &machine.path("home/models/config.json"));
    fs::write(machine.path("home/models/.hidden.safetensors"), "").unwrap();
    fs::write(machine.path("home/models/broken.gguf"), "GGUF").unwrap();
    let models = machine.store().models().unwrap();
    assert_eq!(
        models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(),
        ["ae.safetensors", "broken.gguf", "mine"]
    );
    let standings: Vec<_> = models.iter().map(|model| model.standing()).collect();
    assert_eq!(standings[0].components, [Component::Vae]);
    assert!(!standings[0].whole && standings[0].problem.is_none());
    assert!(standings[1].problem.is_some());
    assert!(standings[2].whole && standings[2].precision.contains("f32"), "{:?}", standings[2]);
    assert!(machine.store().find("mine").unwrap().path.ends_with("home/models/mine"));
}

#[test]
fn an_import_refers_to_the_files_where_they_are() {
    let machine = Machine::new();
    let model = machine.path("elsewhere/tiny");
    copy(&golden("models/tiny-a"), &model);
    let imported = machine.store().import(&Import { path: model.clone(), name: None, copy: false }, &mut deaf).unwrap();
    assert_eq!((imported.name.as_str(), &imported.path), ("tiny", &model));
    assert_eq!(imported.record.unwrap().files.len(), 10);
    assert_eq!(names(&machine.path("home/models")), [".store"]);
    // Importing it again renews the record.
    machine.store().import(&import(&model, "tiny"), &mut deaf).unwrap();

    let removed = machine.store().remove("tiny").unwrap();
    assert_eq!((removed.freed_bytes, removed.left[0].0.clone()), (0, model.clone()));
    assert!(model.join("model_index.json").exists());
    assert!(machine.store().models().unwrap().is_empty());
}

#[test]
fn a_copy_belongs_to_the_store() {
    let machine = Machine::new();
    let text_encoder = "models/tiny-a/text_encoder/model.safetensors";
    // Its shapes alone do not say what it is.
    let alone = Import { copy: true, ..import(&golden(text_encoder), "te") };
    assert!(matches!(machine.store().import(&alone, &mut deaf), Err(Error::NotUsable { .. })));
    assert_eq!(names(&machine.path("home/models")), [""; 0]);
    copy(&golden("models/tiny-a/text_encoder/config.json"), &machine.path("home/models/config.json"));
    for (path, name, place) in [("models/tiny-a", "all", "all"), (text_encoder, "te", "te.safetensors")] {
        let import = Import { copy: true, ..import(&golden(path), name) };
        let imported = machine.store().import(&import, &mut deaf).unwrap();
        assert_eq!(imported.path, machine.path("home/models").join(place));
        assert!(imported.standing().problem.is_none());
        assert!(machine.store().verify(name, &mut deaf).unwrap().iter().all(|check| check.verdict == Verdict::Same));
        assert!(matches!(machine.store().import(&import, &mut deaf), Err(Error::Taken { .. })));
    }
    let size = fs::metadata(golden(text_encoder)).unwrap().len();
    assert_eq!(machine.store().remove("te").unwrap().freed_bytes, size);
    assert!(machine.store().remove("all").unwrap().left.is_empty());
    assert_eq!(names(&machine.path("home/models")), [".store", "config.json"]);
}

#[test]
fn what_cannot_be_used_is_not_imported() {
    let machine = Machine::new();
    let text = machine.path("notes.safetensors");
    fs::write(&text, "hello").unwrap();
    let directory = machine.path("empty");
    fs::create_dir(&directory).unwrap();
    assert!(!machine.path("home/models/x.safetensors").exists());
    for path in [text, directory, machine.path("absent")] {
        let error = machine.store().import(&import(&path, "x"), &mut deaf).unwrap_err();
        assert!(matches!(error, Error::NotUsable { .. } | Error::Io { .. }), "{error}");
    }
    assert!(machine.store().models().unwrap().is_empty());
}

#[test]
fn names_that_are_paths_are_refused() {
    for name in ["", ".", "..", "a/b", "a\\b", ".x", "-x", "a:b", "a\nb", "x.", &"x".repeat(101)] {
        assert!(matches!(Name::new(name), Err(Error::Name { .. })), "{name:?}");
    }
    assert_eq!(Name::new("Z-Image Turbo (fp16)_1.0").unwrap().as_str(), "Z-Image Turbo (fp16)_1.0");
}

#[test]
fn the_chosen_model_is_the_default_until_it_is_removed() {
    let machine = Machine::new();
    let store = machine.store();
    store.import(&import(&golden("models/tiny-a"), "a"), &mut deaf).unwrap();
    store.import(&import(&golden(VAE), "b"), &mut deaf).unwrap();
    assert!(matches!(store.set_active("c"), Err(Error::Unknown { .. })));
    assert_eq!(store.set_active("a").unwrap().name, "a");
    assert_eq!(store.active().unwrap().as_deref(), Some("a"));
    assert_eq!(store.models().unwrap().iter().map(|model| model.active).collect::<Vec<_>>(), [true, false]);
    assert!(!store.remove("b").unwrap().was_active);
    assert!(store.remove("a").unwrap().was_active);
    assert_eq!(store.active().unwrap(), None);
}

#[test]
fn files_that_changed_are_named() {
    let machine = Machine::new();
    let model = machine.path("m");
    copy(&golden("models/tiny-a"), &model);
    machine.store().import(&import(&model, "m"), &mut deaf).unwrap();
    let vae = model.join("vae/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&vae).unwrap();
    bytes[200_000] ^= 1;
    fs::write(&vae, bytes).unwrap();
    fs::remove_file(model.join("vae/config.json")).unwrap();
    fs::write(model.join("model_index.json"), "{}").unwrap();
    let checks = machine.store().verify("m", &mut deaf).unwrap();
    let wrong: Vec<_> = checks.iter().filter(|check| check.verdict != Verdict::Same).collect();
    assert_eq!(
        wrong.iter().map(|check| check.path.as_str()).collect::<Vec<_>>(),
        ["model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    );
    assert!(matches!(wrong[0].verdict, Verdict::Size { found: 2, .. }));
    assert_eq!(wrong[1].verdict, Verdict::Missing);
    assert!(matches!(wrong[2].verdict, Verdict::Digest { .. }));
}

#[test]
fn what_was_put_there_by_hand_is_neither_removed_nor_verified() {
    let machine = Machine::new();
    copy(&golden("models/tiny-a"), &machine.path("home/models/mine"));
    assert!(matches!(machine.store().remove("mine"), Err(Error::ByHand { .. })));
    assert!(matches!(machine.store().verify("mine", &mut deaf), Err(Error::ByHand { .. })));
    assert!(machine.path("home/models/mine/model_index.json").exists());
    // An import in place makes a record, and still removes nothing.
    machine.store().import(&import(&machine.path("home/models/mine"), "mine"), &mut deaf).unwrap();
    machine.store().verify("mine", &mut deaf).unwrap();
    machine.store().remove("mine").unwrap();
    assert!(machine.path("home/models/mine/model_index.json").exists());
}

#[test]
fn a_damaged_record_is_told_and_can_be_removed() {
    let machine = Machine::new();
    machine.store().import(&import(&golden("models/tiny-a"), "a"), &mut deaf).unwrap();
    let record = machine.path("home/models/.store/a.json");
    let text = fs::read_to_string(&record).unwrap();
    for damaged in
        ["", "{}", &text.replace("\"version\": 1", "\"version\": 9"), &text.replace("vae/config", "../../config")]
    {
        fs::write(&record, damaged).unwrap();
        assert!(machine.store().models().unwrap()[0].standing().problem.is_some());
        assert!(matches!(machine.store().find("a"), Err(Error::Record { .. })));
    }
    machine.store().remove("a").unwrap();
    assert!(golden("models/tiny-a/vae/config.json").exists());
    assert!(machine.store().models().unwrap().is_empty());
}

#[test]
fn parts_are_lent_by_the_default_model_first() {
    let machine = Machine::new();
    let store = machine.store();
    let whole = golden("models/tiny-a");
    let second = machine.path("second");
    copy(&whole, &second);
    store.import(&import(&whole, "first"), &mut deaf).unwrap();
    store.import(&import(&second, "second"), &mut deaf).unwrap();
    store.import(&import(&golden(VAE), "ae"), &mut deaf).unwrap();
    let lenders = components(&machine.home()).unwrap();
    let first = whole.canonicalize().unwrap();
    assert_eq!(lenders.text_encoders, [first.clone(), second.clone()]);
    assert_eq!(lenders.vaes, [golden(VAE).canonicalize().unwrap(), first.clone(), second.clone()]);
    store.set_active("second").unwrap();
    let lenders = components(&machine.home()).unwrap();
    assert_eq!(lenders.text_encoders, [second.clone(), first.clone()]);
    assert_eq!(lenders.tokenizers, [second.clone(), first]);
    assert_eq!(lenders.vaes[0], second);
}
