use super::Repo;

#[test]
fn a_repository_has_an_id_and_maybe_a_revision_and_a_file() {
    let cases = [
        ("Tongyi-MAI/Z-Image-Turbo", ("Tongyi-MAI/Z-Image-Turbo", "main", None)),
        ("a/b@refs/pr/1", ("a/b", "refs/pr/1", None)),
        ("a/b:x/y.safetensors", ("a/b", "main", Some("x/y.safetensors"))),
        ("a/b@v1.0:y.gguf", ("a/b", "v1.0", Some("y.gguf"))),
    ];
    for (text, expected) in cases {
        let repo: Repo = text.parse().unwrap();
        assert_eq!((repo.id(), repo.revision(), repo.file()), expected);
        assert_eq!(repo.to_string(), text);
    }
}

#[test]
fn what_is_no_repository_is_refused() {
    let long = format!("a/{}", "b".repeat(100));
    for text in [
        "",
        "a",
        "a/",
        "/b",
        "a/b/c",
        "a b/c",
        "../b",
        "a/..",
        "a/b--c",
        "a/b.git",
        "-a/b",
        "a/b@",
        "a/b@../x",
        "a/b@x y",
        "a/b:",
        "a/b:/etc/x",
        "a/b:../x",
        "a/b:x\\y",
        "https://huggingface.co/a/b",
        "a/b?x",
        "a/é",
        &long,
    ] {
        let error = text.parse::<Repo>().expect_err(text).to_string();
        assert!(error.contains("hint: ") && error.contains(text), "{error}");
    }
}
