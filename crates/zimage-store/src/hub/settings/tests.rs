use std::path::{Path, PathBuf};

use super::Hub;

fn hub(variables: &[(&str, &str)], user: &Path) -> Hub {
    let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
    Hub::from_variables(variable, Some(user.to_path_buf()))
}

#[test]
fn the_cache_lies_where_the_hubs_own_programs_look_for_it() {
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[], "/u/.cache/huggingface/hub"),
        (&[("XDG_CACHE_HOME", "/c")], "/c/huggingface/hub"),
        (&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/c")], "/h/hub"),
        (&[("HF_HOME", "~/h")], "/u/h/hub"),
        (&[("HF_HUB_CACHE", "/x"), ("HF_HOME", "/h")], "/x"),
        (&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")], "/h/hub"),
    ];
    for (variables, expected) in cases {
        assert_eq!(hub(variables, Path::new("/u")).cache, PathBuf::from(expected), "{variables:?}");
    }
}

#[test]
fn the_token_is_the_variables_else_the_files() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().display().to_string();
    std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
    assert_eq!(hub(&[("HF_HOME", &path)], home.path()).token.as_deref(), Some("hf_file"));
    assert_eq!(hub(&[("HF_HOME", &path), ("HF_TOKEN", " hf_x ")], home.path()).token.as_deref(), Some("hf_x"));
    assert_eq!(hub(&[("HF_HOME", "/nowhere")], home.path()).token, None);
}

#[test]
fn endpoint_and_offline_come_from_the_environment() {
    let home = Path::new("/u");
    assert_eq!(hub(&[], home).endpoint, "https://huggingface.co");
    assert_eq!(hub(&[("HF_ENDPOINT", "http://mirror:8080/")], home).endpoint, "http://mirror:8080");
    for (value, offline) in [("1", true), ("true", true), ("0", false), ("", false)] {
        assert_eq!(hub(&[("HF_HUB_OFFLINE", value)], home).offline, offline, "{value}");
    }
}
