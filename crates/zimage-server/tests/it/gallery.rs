//! The history of pictures.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tempfile::TempDir;
use zimage::pipeline::image::{ImageFormat, RgbImage};
use zimage::pipeline::metadata::{Metadata, SCHEMA_VERSION, TaskRecord, Versions};
use zimage_server::job::{Format, ImageRecord, JobSpec, Sha256, StartImage};
use zimage_server::queue::{NewJob, Outcome, Queue, QueueError, SqliteQueue, Wanted};
use zimage_server::store::{Database, Files, Gallery, Page, Query, Rebuilt, rebuild};

use crate::queue::limits;
use crate::samples::{Watch, database, new_job, picture, spec};

struct Bench {
    home: TempDir,
    watch: Watch,
    database: Arc<Database>,
    gallery: Gallery,
}

fn bench() -> Bench {
    let (home, watch) = (TempDir::new().unwrap(), Watch::new());
    let database = database(&home);
    Bench { gallery: Gallery::new(database.clone(), watch.clock()), database, home, watch }
}

impl Bench {
    /// A gallery of pictures, each made a millisecond after the one before.
    fn with(prompts: &[&str]) -> Bench {
        let bench = bench();
        for (time, prompt) in (1..).zip(prompts) {
            assert!(bench.gallery.restore_record(&picture(prompt, time)).unwrap());
        }
        bench
    }

    fn page(&self, query: Query) -> Page {
        self.gallery.page(&query).unwrap()
    }

    fn search(&self, words: &str) -> Vec<String> {
        let page = self.page(Query { q: Some(words.into()), ..Query::default() });
        assert_eq!(page.total, page.images.len() as u64);
        page.images.into_iter().map(|image| image.prompt).collect()
    }

    fn queue(&self) -> SqliteQueue {
        SqliteQueue::new(self.database.clone(), limits(), self.watch.clock())
    }

    /// Runs a job that makes these pictures.
    fn make(&self, images: &[ImageRecord]) -> zimage_server::job::Job {
        let queue = self.queue();
        queue.submit(new_job("ann")).unwrap();
        let lease = queue.claim("w", &Wanted::default()).unwrap().unwrap();
        for image in images {
            queue.add_image(&lease, image).unwrap();
        }
        queue.finish(&lease, Outcome::Done).unwrap();
        queue.job(lease.job.id).unwrap().unwrap()
    }
}

fn prompts(page: &Page) -> Vec<&str> {
    page.images.iter().map(|image| image.prompt.as_str()).collect()
}

fn sha256(prompt: &str) -> Sha256 {
    Sha256::of(prompt.as_bytes())
}

#[test]
fn pages_follow_each_other_newest_first_while_pictures_come_and_go() {
    let bench = Bench::with(&["a", "b", "c", "d", "e"]);
    let two = |cursor| Query { cursor, limit: Some(2), ..Query::default() };
    let first = bench.page(two(None));
    assert_eq!((prompts(&first), first.total), (vec!["e", "d"], 5));
    bench.gallery.restore_record(&picture("new", 9)).unwrap();
    bench.gallery.delete(&[sha256("d")]).unwrap();
    let second = bench.page(two(first.next));
    assert_eq!((prompts(&second), second.total), (vec!["c", "b"], 5));
    let third = bench.page(two(second.next));
    assert_eq!((prompts(&third), &third.next), (vec!["a"], &None));
}

#[test]
fn pictures_of_the_same_moment_are_all_listed() {
    let bench = bench();
    for prompt in ["a", "b", "c"] {
        bench.gallery.restore_record(&picture(prompt, 1)).unwrap();
    }
    let one = |cursor| Query { cursor, limit: Some(1), ..Query::default() };
    let (mut cursor, mut seen) = (None, Vec::new());
    for _ in 0..3 {
        let page = bench.page(one(cursor));
        seen.extend(page.images.into_iter().map(|image| image.prompt));
        cursor = page.next;
    }
    assert_eq!((seen, cursor), (vec!["c".into(), "b".into(), "a".into()], None));
}

#[test]
fn a_cursor_that_is_none_is_refused() {
    let bench = Bench::with(&["a"]);
    for cursor in ["", "x", "' OR 1=1", "AAAA", &"A".repeat(1000)] {
        let answer = bench.gallery.page(&Query { cursor: Some(cursor.into()), ..Query::default() });
        assert!(matches!(answer, Err(QueueError::Damaged(_))), "{cursor}");
    }
}

#[test]
fn a_page_has_at_least_one_picture_and_at_most_200() {
    let names: Vec<String> = (0..210).map(|index| index.to_string()).collect();
    let bench = Bench::with(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (limit, length) in [(Some(0), 1), (None, 50), (Some(u32::MAX), 200)] {
        assert_eq!(bench.page(Query { limit, ..Query::default() }).images.len(), length);
    }
}

#[test]
fn a_record_comes_back_as_it_was() {
    let bench = bench();
    let image = ImageRecord { favourite: true, ..picture("a \"quoted\" prompt\nwith lines", 5) };
    bench.gallery.restore_record(&image).unwrap();
    assert_eq!(bench.gallery.image(&image.sha256).unwrap(), Some(image));
}

#[test]
fn a_search_finds_all_words_and_the_beginning_of_the_last() {
    let bench = Bench::with(&["a red balloon", "a blue balloon over the sea", "Öl auf Leinwand, ROT"]);
    let cases: [(&str, &[usize]); 12] = [
        ("balloon", &[1, 0]),
        ("ball", &[1, 0]),
        ("RED ball", &[0]),
        ("ball red", &[]),
        ("balloon red", &[0]),
        ("alloon", &[]),
        ("sea blue", &[1]),
        ("ol rot", &[2]),
        ("", &[2, 1, 0]),
        ("  \t", &[2, 1, 0]),
        ("balloon,", &[1, 0]),
        ("over-the", &[1]),
    ];
    let all = ["a red balloon", "a blue balloon over the sea", "Öl auf Leinwand, ROT"];
    for (words, expected) in cases {
        assert_eq!(bench.search(words), expected.iter().map(|index| all[*index]).collect::<Vec<_>>(), "{words:?}");
    }
}

#[test]
fn a_search_finds_chinese_words_of_any_length() {
    let all = ["海上的红色气球", "一只橘猫坐在窗台上,水彩画", "赤い風船 and a cat"];
    let bench = Bench::with(&all);
    let cases: [(&str, &[usize]); 9] = [
        ("气球", &[0]),
        ("红色气球", &[0]),
        ("海", &[0]),
        ("上", &[1, 0]),
        ("气球 海上", &[0]),
        ("球气", &[]),
        ("猫坐 水彩", &[1]),
        ("風船", &[2]),
        ("風船 ca", &[2]),
    ];
    for (words, expected) in cases {
        assert_eq!(bench.search(words), expected.iter().map(|index| all[*index]).collect::<Vec<_>>(), "{words:?}");
    }
}

#[test]
fn the_language_of_the_index_has_no_meaning_in_a_search() {
    let bench = Bench::with(&["a red balloon", "words : \"and\" OR not"]);
    for (words, count) in [
        ("red OR cat", 0),
        ("NOT red", 0),
        ("words:red", 0),
        ("re*", 1),
        ("\"red", 1),
        ("^red", 1),
        ("red\0balloon", 1),
        ("(red", 1),
        ("\" OR \"", 1),
        ("red NEAR(balloon)", 0),
        ("'; DROP TABLE images", 0),
    ] {
        assert_eq!(bench.search(words).len(), count, "{words:?}");
    }
}

#[test]
fn favourites_are_listed_alone_and_counted() {
    let bench = Bench::with(&["red a", "red b", "blue c"]);
    for prompt in ["red a", "blue c"] {
        assert!(bench.gallery.set_favourite(&sha256(prompt), true).unwrap());
        assert!(bench.gallery.set_favourite(&sha256(prompt), true).unwrap());
    }
    let page = bench.page(Query { fav: true, ..Query::default() });
    assert_eq!((prompts(&page), page.total), (vec!["blue c", "red a"], 2));
    assert!(page.images.iter().all(|image| image.favourite));
    let page = bench.page(Query { fav: true, q: Some("red".into()), ..Query::default() });
    assert_eq!((prompts(&page), page.total), (vec!["red a"], 1));
    bench.gallery.set_favourite(&sha256("red a"), false).unwrap();
    bench.gallery.delete(&[sha256("blue c")]).unwrap();
    assert_eq!(bench.page(Query { fav: true, ..Query::default() }).total, 0);
    assert!(!bench.gallery.set_favourite(&sha256("unknown"), true).unwrap());
}

#[test]
fn deleted_pictures_are_hidden_until_restored() {
    let bench = Bench::with(&["a", "b"]);
    assert_eq!(bench.gallery.delete(&[sha256("a"), sha256("a"), sha256("unknown")]).unwrap(), 1);
    assert_eq!(bench.gallery.image(&sha256("a")).unwrap(), None);
    let page = bench.page(Query::default());
    assert_eq!((prompts(&page), page.total), (vec!["b"], 1));
    assert_eq!(bench.search("a"), [] as [&str; 0]);
    assert!(!bench.gallery.set_favourite(&sha256("a"), true).unwrap());
    assert!(!bench.gallery.restore_record(&picture("a", 7)).unwrap());
    assert_eq!(bench.gallery.restore(&[sha256("a"), sha256("b")]).unwrap(), 1);
    let page = bench.page(Query::default());
    assert_eq!((prompts(&page), page.total), (vec!["b", "a"], 2));
    assert_eq!(bench.search("a"), ["a"]);
}

#[test]
fn a_purge_forgets_what_was_deleted_before() {
    let bench = Bench::with(&["a", "b", "c"]);
    bench.gallery.delete(&[sha256("a")]).unwrap();
    bench.watch.pass(10);
    bench.gallery.delete(&[sha256("b")]).unwrap();
    let purged = bench.gallery.purge(bench.watch.now()).unwrap();
    assert_eq!(purged, [picture("a", 1)]);
    assert_eq!(bench.gallery.restore(&[sha256("a"), sha256("b")]).unwrap(), 1);
    assert_eq!(bench.page(Query::default()).total, 2);
    assert_eq!(bench.search("a"), [] as [&str; 0]);
}

#[test]
fn a_picture_that_a_waiting_job_starts_from_is_not_purged() {
    let bench = Bench::with(&["start", "mask"]);
    let queue = bench.queue();
    let start = StartImage { image: sha256("start"), mask: Some(sha256("mask")), strength: 0.5 };
    let job = NewJob { spec: JobSpec { start: Some(start), ..spec() }, ..new_job("ann") };
    let id = queue.submit(job).unwrap().job.id;
    bench.gallery.delete(&[sha256("start"), sha256("mask")]).unwrap();
    assert_eq!(bench.gallery.purge(u64::MAX >> 1).unwrap(), []);
    queue.cancel(id).unwrap();
    assert_eq!(bench.gallery.purge(u64::MAX >> 1).unwrap().len(), 2);
}

#[test]
fn the_same_picture_made_twice_is_one_entry_on_top_and_in_both_jobs() {
    let bench = bench();
    let first = bench.make(&[picture("again", 1)]);
    bench.make(&[picture("other", 2)]);
    bench.gallery.set_favourite(&sha256("again"), true).unwrap();
    bench.gallery.delete(&[sha256("again")]).unwrap();
    let second = bench.make(&[picture("again", 3)]);
    let page = bench.page(Query::default());
    assert_eq!((prompts(&page), page.total), (vec!["again", "other"], 2));
    assert_eq!((page.images[0].job, page.images[0].favourite), (Some(second.id), true));
    assert_eq!(second.images[0].job, Some(second.id));
    let first = bench.queue().job(first.id).unwrap().unwrap();
    assert_eq!((first.images[0].job, first.images[0].created_ms), (Some(first.id), 1));
    assert_eq!(bench.search("again").len(), 1);
}

#[test]
fn a_picture_that_its_job_replaced_is_deleted_unless_another_job_has_it() {
    let bench = bench();
    bench.make(&[picture("shared", 1)]);
    let job = bench.make(&[picture("shared", 2), picture("alone", 3), picture("last", 4)]);
    assert_eq!(job.images.iter().map(|image| image.prompt.as_str()).collect::<Vec<_>>(), ["last"]);
    assert_eq!(prompts(&bench.page(Query::default())), ["last", "shared"]);
    let purged = bench.gallery.purge(u64::MAX >> 1).unwrap();
    assert_eq!(purged.iter().map(|image| image.prompt.as_str()).collect::<Vec<_>>(), ["alone"]);
}

#[test]
fn purged_pictures_are_gone_from_their_jobs() {
    let bench = bench();
    let job = bench.make(&[picture("a", 1)]);
    bench.gallery.delete(&[sha256("a")]).unwrap();
    assert_eq!(bench.queue().job(job.id).unwrap().unwrap().images.len(), 1);
    bench.gallery.purge(u64::MAX >> 1).unwrap();
    assert_eq!(bench.queue().job(job.id).unwrap().unwrap().images, []);
}

#[test]
fn a_page_of_a_large_gallery_is_not_counted_out() {
    const PICTURES: u64 = 5_000;
    let bench = bench();
    let queue = bench.queue();
    queue.submit(new_job("ann")).unwrap();
    let lease = queue.claim("w", &Wanted::default()).unwrap().unwrap();
    for index in 0..PICTURES {
        let image = ImageRecord { index: index as u32, ..picture(&format!("a red balloon {index}"), index) };
        queue.add_image(&lease, &image).unwrap();
    }
    let middle = bench.page(Query { limit: Some(200), ..Query::default() }).next;
    let time = |query: Query| {
        let begin = Instant::now();
        assert!(bench.page(query).total > 0);
        begin.elapsed()
    };
    let page = time(Query { cursor: middle, ..Query::default() });
    let rare = time(Query { q: Some("777".into()), ..Query::default() });
    let common = time(Query { q: Some("balloon".into()), ..Query::default() });
    println!("page {page:?}, search for a rare word {rare:?}, for a common one {common:?}");
    assert!(page < Duration::from_millis(50), "{page:?}");
}

fn metadata(prompt: &str, seed: u64) -> Metadata {
    Metadata {
        schema_version: SCHEMA_VERSION,
        prompt: prompt.into(),
        negative_prompt: String::new(),
        width: 32,
        height: 16,
        steps: 4,
        seed,
        guidance: 0.0,
        cfg_normalization: 0.0,
        cfg_truncation: 1.0,
        shift: 3.0,
        cache: zimage::pipeline::cache::StepCache::None,
        task: TaskRecord::TextToImage,
        model: "demo".into(),
        files: Vec::new(),
        loras: Vec::new(),
        versions: Versions::current(),
        device: "cpu".into(),
        compute: "f32".into(),
        tiled: false,
    }
}

/// Stores a picture's file, as a worker does, and gives its record.
fn stored(bench: &Bench, files: &Files, format: Format, prompt: &str, time: u64) -> ImageRecord {
    let as_file = match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Webp => ImageFormat::WebP,
    };
    let bytes = RgbImage::new(32, 16, vec![99; 32 * 16 * 3]).encode(as_file, Some(&metadata(prompt, time))).unwrap();
    let sha256 = files.write_image(&bytes, format).unwrap();
    let path = format!("images/{}/{sha256}.{}", &sha256.as_str()[..2], format.extension());
    let file = File::options().write(true).open(bench.home.path().join(path)).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_millis(time)).unwrap();
    let size_bytes = bytes.len() as u64;
    ImageRecord { sha256, seed: time, width: 32, height: 16, format, size_bytes, ..picture(prompt, time) }
}

#[test]
fn a_lost_database_is_made_again_from_the_files() {
    let mut bench = bench();
    let files = Files::open(bench.home.path()).unwrap();
    let images = [
        stored(&bench, &files, Format::Png, "海上的红色气球", 1_000),
        stored(&bench, &files, Format::Jpeg, "a cat", 2_000),
        stored(&bench, &files, Format::Webp, "a dog", 3_000),
    ];
    for image in &images {
        bench.make(std::slice::from_ref(image));
    }
    bench.gallery.set_favourite(&images[1].sha256, true).unwrap();
    let before = bench.page(Query::default());
    assert_eq!(rebuild(&files, &bench.gallery).unwrap(), Rebuilt { known: 3, ..Rebuilt::default() });
    assert_eq!(bench.page(Query::default()), before);

    let other_home = TempDir::new().unwrap();
    bench.gallery = Gallery::new(crate::samples::database(&other_home), bench.watch.clock());
    assert_eq!(rebuild(&files, &bench.gallery).unwrap(), Rebuilt { added: 3, ..Rebuilt::default() });
    let without = |image: ImageRecord| ImageRecord { job: None, favourite: false, ..image };
    let expected: Vec<_> = before.images.into_iter().map(without).collect();
    assert_eq!(bench.page(Query::default()).images, expected);
    assert_eq!(bench.search("气球").len(), 1);
}

#[test]
fn files_that_are_not_what_they_say_are_skipped() {
    let bench = bench();
    let files = Files::open(bench.home.path()).unwrap();
    let image = stored(&bench, &files, Format::Png, "a cat", 1);
    let folder = bench.home.path().join("images").join(&image.sha256.as_str()[..2]);
    let original = folder.join(format!("{}.png", image.sha256));
    // Bytes that are not those of the name, an ending that is not the format's, a stranger, and one without metadata.
    std::fs::create_dir_all(bench.home.path().join("images/00")).unwrap();
    std::fs::copy(&original, bench.home.path().join(format!("images/00/{}.png", "0".repeat(64)))).unwrap();
    std::fs::copy(&original, folder.join("cat.png")).unwrap();
    std::fs::write(folder.join("notes.txt"), "hello").unwrap();
    let bare = RgbImage::new(32, 16, vec![1; 32 * 16 * 3]).encode(ImageFormat::Png, None).unwrap();
    files.write_image(&bare, Format::Png).unwrap();
    files.write_image(b"no picture", Format::Png).unwrap();
    let expected = Rebuilt { added: 1, known: 0, skipped: 5 };
    assert_eq!(rebuild(&files, &bench.gallery).unwrap(), expected);
    assert_eq!(bench.page(Query::default()).images, [image]);
}
