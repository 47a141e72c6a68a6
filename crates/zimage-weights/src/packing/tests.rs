use super::*;

#[test]
fn bits_and_group_are_told_by_the_shapes() {
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            let cols = 384;
            let found = of_words(cols * bits / 32, cols / group, Dtype::BF16, true, cols);
            assert_eq!(found, Ok(Scaled::affine(bits as u8, group, ScaleType::BF16)));
        }
    }
    let elements = |words, groups, cols| {
        of_words(words, groups, Dtype::U8, false, cols).map(|scaled| (scaled.element, scaled.scale, scaled.group))
    };
    assert_eq!(elements(32, 8, 256), Ok((Element::E2M1, ScaleType::E8M0, Group::Columns(32))));
    assert_eq!(elements(64, 8, 256), Ok((Element::E4M3, ScaleType::E8M0, Group::Columns(32))));
    assert_eq!(elements(32, 16, 256), Ok((Element::E2M1, ScaleType::E4M3, Group::Columns(16))));
}

#[test]
fn what_is_no_packing_is_refused_with_its_sizes() {
    for (words, groups, cols) in [(0, 0, 64), (16, 1, 0), (16, 3, 64), (14, 1, 64), (16, 4, 64), (15, 1, 64)] {
        let error = of_words(words, groups, Dtype::F16, true, cols).expect_err("no packing");
        assert!(error.contains(&format!("{words} words")), "{error}");
    }
    assert!(of_words(16, 1, Dtype::I8, true, 64).is_err());
}
