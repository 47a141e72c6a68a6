use std::fs;
use std::path::Path;

use super::{Placeholders, Template, numbered, prepare, replace, sanitized, write_numbered};

fn fill(template: &str) -> Result<String, String> {
    let values = Placeholders { seed: 7, index: 2, prompt: "a cat" };
    let path = Template::new(template).and_then(|template| template.fill(&values));
    path.map(|path| path.display().to_string()).map_err(|failure| failure.to_string())
}

#[test]
fn placeholders_are_filled_in() {
    assert_eq!(fill("out/{prompt}-{seed}-{index}.png"), Ok("out/a-cat-7-2.png".into()));
    assert_eq!(fill("plain.png"), Ok("plain.png".into()));
}

#[test]
fn unknown_placeholders_are_refused() {
    for template in ["{sed}.png", "{", "{}.png", "a{seed.png"] {
        assert!(fill(template).unwrap_err().contains("not a placeholder"), "{template}");
    }
    assert!(fill("..").unwrap_err().contains("not a file name"));
}

#[test]
fn prompts_become_harmless_names() {
    for (prompt, name) in [
        ("A red fox, in the snow!", "A-red-fox-in-the-snow"),
        ("../../etc/passwd", "etc-passwd"),
        ("狐 in ö", "狐-in-ö"),
        ("\0\n\\:*?", "untitled"),
        ("", "untitled"),
    ] {
        assert_eq!(sanitized(prompt), name);
    }
    assert!(sanitized(&"ö".repeat(500)).len() <= 100);
}

#[test]
fn the_ending_selects_the_format() {
    assert!(Template::for_pictures("a.webp").is_ok());
    assert!(Template::for_pictures("a.gif").unwrap_err().to_string().contains("a.gif"));
}

#[test]
fn existing_files_are_numbered_around() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.png");
    for expected in ["out.png", "out-1.png", "out-2.png"] {
        let written = write_numbered(&path, expected.as_bytes()).unwrap();
        assert_eq!(written.file_name().unwrap(), expected);
        assert_eq!(fs::read(&written).unwrap(), expected.as_bytes());
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3, "a temporary file stays behind");
}

#[test]
fn numbers_go_before_the_ending() {
    let names: Vec<_> = numbered(Path::new("a.b/c.d.png")).take(2).collect();
    assert_eq!(names, [Path::new("a.b/c.d.png"), Path::new("a.b/c.d-1.png")]);
}

#[test]
fn directories_are_made_and_replacing_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    prepare(&directory.path().join("a/b/out.png")).unwrap();
    assert!(directory.path().join("a/b").is_dir());
    let path = directory.path().join("c/d.json");
    replace(&path, b"1").unwrap();
    replace(&path, b"2").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"2");
    assert_eq!(fs::read_dir(directory.path().join("c")).unwrap().count(), 1);
}

#[test]
fn a_directory_that_cannot_be_made_is_a_usage_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let failure = prepare(&file.path().join("below/out.png")).unwrap_err();
    assert!(failure.to_string().contains("cannot write in"), "{failure}");
}
