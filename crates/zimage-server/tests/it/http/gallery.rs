use std::io::Read;

use super::client::Request;
use super::server::start;

#[test]
fn pictures_are_listed_searched_marked_deleted_and_restored() {
    let server = start();
    let (cat, dog) = (server.finished_picture("a cat"), server.finished_picture("a dog"));
    let total = |query: &str| server.get(&format!("/api/v1/images{query}")).json()["total"].as_u64().unwrap();
    assert_eq!((total(""), total("?q=cat"), total("?q=do"), total("?fav=true")), (2, 1, 1, 0));
    let path = format!("/api/v1/images/{}", cat.sha256);
    assert_eq!(server.call("PATCH", &path, r#"{"favourite":true}"#)["favourite"], true);
    assert_eq!(total("?fav=true"), 1);
    let both = format!(r#"{{"sha256":["{}","{}"]}}"#, cat.sha256, dog.sha256);
    assert_eq!(server.call("POST", "/api/v1/images/delete", &both)["count"], 2);
    assert_eq!((total(""), server.get(&path).status), (0, 404));
    assert_eq!(server.call("POST", "/api/v1/images/restore", &both)["count"], 2);
    assert_eq!((total(""), server.get(&path).status), (2, 200));
    let page = server.get("/api/v1/images?limit=1").json();
    let next = page["next"].as_str().unwrap();
    assert_eq!(
        server.get(&format!("/api/v1/images?limit=1&cursor={next}")).json()["images"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn a_picture_gives_back_the_request_that_made_it() {
    let server = start();
    let picture = server.finished_picture("a cat");
    let details = server.get(&format!("/api/v1/images/{}", picture.sha256)).json();
    let draft = &details["draft"];
    assert_eq!((&draft["prompt"], &draft["seed"], &draft["steps"]), (&"a cat".into(), &5.into(), &2.into()));
    assert_eq!((&draft["width"], &draft["model"], &draft["format"]), (&64.into(), &"demo".into(), &"png".into()));
    assert!(details["parameters"].as_str().unwrap().starts_with("a cat\nSteps: 2, "));
    assert_eq!((&details["metadata"]["device"], &details["image"]["prompt"]), (&"test".into(), &"a cat".into()));
    server.call("POST", "/api/v1/jobs", &draft.to_string());
}

#[test]
fn a_thumbnail_is_a_small_jpeg() {
    let server = start();
    let picture = server.finished_picture("a cat");
    let reply = server.get(&format!("/thumbnails/{}.jpg", picture.sha256));
    assert_eq!((reply.status, reply.header("content-type"), &reply.body[..2]), (200, "image/jpeg", &[0xff, 0xd8][..]));
    assert_eq!(server.get(&format!("/thumbnails/{}.jpg", "a".repeat(64))).status, 404);
    assert_eq!(server.get(&format!("/thumbnails/{}.png", picture.sha256)).status, 404);
}

#[test]
fn pictures_are_saved_as_an_archive() {
    let server = start();
    let (cat, dog) = (server.finished_picture("a cat"), server.finished_picture("a dog"));
    // One that is asked for twice is there once.
    let names = [&cat, &dog, &cat].map(|picture| picture.sha256.to_string()).join(",");
    let reply = server.get(&format!("/api/v1/images/zip?sha256={names}"));
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/zip"));
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(reply.body)).unwrap();
    assert_eq!(archive.len(), 2);
    for (index, picture) in [cat, dog].iter().enumerate() {
        let mut file = archive.by_index(index).unwrap();
        let digits = &picture.sha256.as_str()[..8];
        assert_eq!(file.name().unwrap(), format!("20231114-221320-5-{digits}.png"));
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(zimage_server::job::Sha256::of(&bytes), picture.sha256);
    }
}

#[test]
fn an_archive_of_nothing_or_of_strangers_is_refused() {
    let server = start();
    let many = vec!["a".repeat(64); 501].join(",");
    for (names, status) in [("", 404), ("../x", 404), (&"a".repeat(64), 404), (many.as_str(), 400)] {
        let reply = server.send(&Request::get(&format!("/api/v1/images/zip?sha256={names}")));
        assert_eq!(reply.status, status, "{}", &names[..names.len().min(70)]);
    }
}
