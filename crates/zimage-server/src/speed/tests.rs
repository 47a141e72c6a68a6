use std::time::Duration;

use super::Speed;
use crate::draft::{Draft, ModelDefaults};
use crate::job::{Job, JobId, JobState, Progress, Tokens};
use crate::limits::Limits;

/// A job of two pictures of 64x64 in 4 steps.
fn job(state: JobState, progress: Option<Progress>) -> Job {
    let draft = Draft { n: Some(2), steps: Some(4), seed: Some(1), ..Draft::default() };
    let model = ModelDefaults { name: "demo".into(), native_size: 64 };
    Job {
        id: JobId::new(),
        state,
        spec: draft.into_spec(&model, &Limits::default()).expect("valid"),
        priority: Default::default(),
        owner: "ann".into(),
        created_ms: 0,
        started_ms: (state == JobState::Running).then_some(1000),
        finished_ms: None,
        attempts: 0,
        progress,
        position: None,
        eta_ms: None,
        images: Vec::new(),
        error: None,
        tokens: Tokens::default(),
    }
}

fn estimates(speed: &Speed, jobs: &mut [Job], now: u64) -> Vec<Option<u64>> {
    speed.estimate(jobs, now);
    jobs.iter().map(|job| job.eta_ms).collect()
}

#[test]
fn nothing_is_estimated_before_anything_was_done() {
    let speed = Speed::default();
    let mut jobs = [job(JobState::Running, None), job(JobState::Queued, None)];
    assert_eq!(estimates(&speed, &mut jobs, 5000), [None, None]);
}

#[test]
fn a_first_picture_is_estimated_by_its_own_pace() {
    let speed = Speed::default();
    // One of eight steps in two seconds.
    let at = Progress { image: 0, step: 1, steps: 4 };
    let mut jobs = [job(JobState::Running, Some(at)), job(JobState::Queued, None)];
    assert_eq!(estimates(&speed, &mut jobs, 3000), [Some(14_000), Some(30_000)]);
}

#[test]
fn finished_pictures_tell_more_than_the_pace() {
    let speed = Speed::default();
    speed.learn(&job(JobState::Done, None).spec, Duration::from_secs(4));
    let at = Progress { image: 1, step: 2, steps: 4 };
    let mut jobs = [job(JobState::Running, Some(at)), job(JobState::Queued, None)];
    assert_eq!(estimates(&speed, &mut jobs, 60_000), [Some(2000), Some(10_000)]);
}
