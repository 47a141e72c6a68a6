use super::Pace;
use crate::http::openai::request::Partials;
use crate::job::Progress;

/// The steps, of `steps`, after which partial pictures are due.
fn due(partials: Partials, steps: u32) -> Vec<u32> {
    let mut pace = Pace::new(partials);
    (0..=steps).filter(|&step| pace.due(Progress { image: 0, step, steps }).is_some()).collect()
}

#[test]
fn partial_pictures_are_spread_evenly_over_the_steps() {
    assert_eq!(due(Partials::Count(0), 8), [0; 0]);
    assert_eq!(due(Partials::Count(1), 8), [4]);
    assert_eq!(due(Partials::Count(2), 9), [3, 6]);
    assert_eq!(due(Partials::Count(3), 8), [2, 4, 6]);
    assert_eq!(due(Partials::EveryStep, 3), [1, 2, 3]);
}

#[test]
fn with_fewer_steps_there_are_fewer_of_them() {
    assert_eq!(due(Partials::Count(3), 2), [1, 2]);
    assert_eq!(due(Partials::Count(3), 1), [1]);
}

#[test]
fn each_picture_has_its_own() {
    let mut pace = Pace::new(Partials::Count(1));
    let at = |image, step| Progress { image, step, steps: 2 };
    assert_eq!(pace.due(at(0, 1)), Some(0));
    assert_eq!(pace.due(at(0, 2)), None);
    assert_eq!(pace.due(at(1, 1)), Some(0));
}
