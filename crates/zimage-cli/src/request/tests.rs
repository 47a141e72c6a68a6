use super::{SizeArgs, preset, size};
use crate::env::Config;

fn sized(width: Option<u32>, height: Option<u32>, aspect: Option<&str>, base: Option<u32>) -> Option<(u32, u32)> {
    let aspect = aspect.map(|text| text.parse().unwrap());
    size(&SizeArgs { width, height, aspect, base }, &Config::default(), 1024, None).ok()
}

#[test]
fn presets_keep_the_area_in_multiples_of_sixteen() {
    for (aspect, base, expected) in [
        ("1:1", 1024, (1024, 1024)),
        ("16:9", 1024, (1360, 768)),
        ("9:16", 1024, (768, 1360)),
        ("3:2", 1024, (1248, 832)),
        ("4:3", 512, (592, 448)),
        ("1000:1", 16, (512, 16)),
    ] {
        assert_eq!(sized(None, None, Some(aspect), Some(base)), Some(expected), "{aspect} at {base}");
    }
    assert_eq!(sized(None, None, None, Some(512)), Some((512, 512)));
    assert_eq!(sized(None, None, Some("1:1"), None), Some((1024, 1024)));
}

#[test]
fn a_side_that_is_not_given_is_native() {
    assert_eq!(sized(Some(512), None, None, None), Some((512, 1024)));
    assert_eq!(sized(None, None, None, None), Some((1024, 1024)));
}

#[test]
fn impossible_sizes_are_refused() {
    assert_eq!(sized(Some(65_552), None, None, None), None);
    assert_eq!(sized(None, None, Some("1:1"), Some(0)), None);
    assert_eq!(sized(None, None, Some("1e300:1e-300"), Some(1024)), None);
    assert!(preset(&SizeArgs { width: None, height: None, aspect: None, base: Some(70_000) }, 1).is_err());
}
