use super::{Pass, StepCache};
use crate::model::scheduler::MAX_STEPS;
use StepCache::{Fast, Medium, None, Slow};

fn computed(cache: StepCache, count: usize) -> Vec<usize> {
    cache.computed(count).collect()
}

#[test]
fn nine_steps_follow_the_lists_of_the_original() {
    assert_eq!(computed(None, 9), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(computed(Slow, 9), [0, 1, 2, 3, 5, 7, 8]);
    assert_eq!(computed(Medium, 9), [0, 1, 2, 4, 6, 8]);
    assert_eq!(computed(Fast, 9), [0, 1, 2, 5, 8]);
}

/// Computed steps are `#`, skipped ones `.`.
#[test]
fn other_numbers_of_steps_follow_the_same_form() {
    for (slow, medium, fast) in [
        ("#", "#", "#"),
        ("##", "##", "##"),
        ("###", "###", "###"),
        ("####", "####", "####"),
        ("#####", "#####", "##.##"),
        ("######", "######", "###.##"),
        ("####.##", "###.#.#", "###.#.#"),
        ("####.###", "###.#.##", "###..#.#"),
        ("####.#.##", "###.#.#.#", "###..#..#"),
        ("#####.#.##", "####.#.#.#", "####..#..#"),
        ("#####.#.###", "####.#.#.##", "####..#..##"),
        ("######.#.###", "####.#.#.#.#", "####..#..#.#"),
        ("#########.#.#.#.#.##", "######.#.#.#.#.#.#.#", "######..#..#..#..#.#"),
        (
            "####################.#.#.#.#.#.#.#.#.#.#.#.#.#.###",
            "##############.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#.#",
            "##############..#..#..#..#..#..#..#..#..#..#..#..#",
        ),
    ] {
        let count = slow.len();
        for (cache, row) in [(Slow, slow), (Medium, medium), (Fast, fast)] {
            let steps = row.char_indices().filter(|(_, mark)| *mark == '#').map(|(step, _)| step);
            assert_eq!(computed(cache, count), steps.collect::<Vec<_>>(), "{cache} at {count} steps");
        }
    }
}

#[test]
fn every_run_computes_its_first_and_last_step_and_a_faster_mode_never_more() {
    for count in 1..=MAX_STEPS {
        let [none, slow, medium, fast] = StepCache::ALL.map(|cache| {
            let steps = computed(cache, count);
            assert_eq!((steps.first(), steps.last()), (Some(&0), Some(&(count - 1))), "{cache} at {count} steps");
            let reach = steps.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(1);
            assert!(reach <= if cache == Fast { 3 } else { 2 }, "{cache} at {count} steps");
            steps.len()
        });
        assert!(none == count && none >= slow && slow >= medium && medium >= fast, "{count} steps");
        assert!(2 * fast >= count, "{count} steps: fast computes {fast}");
    }
}

#[test]
fn what_the_layers_add_is_kept_only_where_the_next_step_reuses_it() {
    use Pass::{Full, Keep, Reuse};
    let passes = |cache: StepCache| (0..9).map(|step| cache.pass(step, 9)).collect::<Vec<_>>();
    assert_eq!(passes(None), [Full; 9]);
    assert_eq!(passes(Fast), [Full, Full, Keep, Reuse, Reuse, Keep, Reuse, Reuse, Full]);
    assert_eq!(passes(Slow), [Full, Full, Full, Keep, Reuse, Keep, Reuse, Full, Full]);
}

#[test]
fn modes_are_named_and_others_refused_with_the_list() {
    for cache in StepCache::ALL {
        assert_eq!(cache.name().parse(), Ok(cache));
        assert_eq!(serde_json::to_value(cache).expect("a name"), cache.to_string());
    }
    for text in ["", "Fast", "turbo"] {
        assert_eq!(text.parse::<StepCache>(), Err("expected one of none, slow, medium, fast".into()), "{text}");
    }
}
