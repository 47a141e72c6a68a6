//! API keys.

use tempfile::TempDir;
use zimage_server::store::Keys;

use crate::samples::{Watch, database};

fn keys() -> (TempDir, Watch, Keys) {
    let (home, watch) = (TempDir::new().unwrap(), Watch::new());
    let keys = Keys::new(database(&home), watch.clock());
    (home, watch, keys)
}

#[test]
fn a_token_opens_until_it_is_revoked() {
    let (_home, _watch, keys) = keys();
    assert!(!keys.any().unwrap());
    let ann = keys.create("ann").unwrap().unwrap().token;
    let bob = keys.create("bob").unwrap().unwrap().token;
    assert!(keys.any().unwrap());
    assert_eq!(keys.verify(&ann).unwrap().as_deref(), Some("ann"));
    assert_eq!(keys.verify(&bob).unwrap().as_deref(), Some("bob"));
    assert!(keys.revoke("ann").unwrap());
    assert!(!keys.revoke("ann").unwrap());
    assert_eq!(keys.verify(&ann).unwrap(), None);
    assert_eq!(keys.verify(&bob).unwrap().as_deref(), Some("bob"));
}

#[test]
fn tokens_are_256_random_bits() {
    let (_home, _watch, keys) = keys();
    let tokens: Vec<_> = (0..20).map(|index| keys.create(&index.to_string()).unwrap().unwrap().token).collect();
    for token in &tokens {
        let digits = token.strip_prefix("zk-").unwrap();
        assert_eq!(digits.len(), 64);
        assert!(digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
        assert_eq!(tokens.iter().filter(|other| *other == token).count(), 1);
    }
}

#[test]
fn nothing_but_the_whole_token_opens() {
    let (_home, _watch, keys) = keys();
    let token = keys.create("ann").unwrap().unwrap().token;
    for wrong in ["", "zk-", "ann", &token[..66], &format!("{token} "), &token.to_uppercase(), &token[3..]] {
        assert_eq!(keys.verify(wrong).unwrap(), None, "{wrong}");
    }
}

#[test]
fn a_name_has_one_key() {
    let (_home, watch, keys) = keys();
    let first = keys.create("bob").unwrap().unwrap().token;
    assert!(keys.create("bob").unwrap().is_none());
    assert_eq!(keys.verify(&first).unwrap().as_deref(), Some("bob"));
    watch.pass(10);
    keys.create("ann").unwrap();
    let list = keys.list().unwrap();
    let seen: Vec<_> = list.iter().map(|key| (key.name.as_str(), key.created_ms)).collect();
    assert_eq!(seen, [("bob", watch.now() - 10), ("ann", watch.now())]);
}

#[test]
fn the_database_has_no_token() {
    let (home, _watch, keys) = keys();
    let token = keys.create("ann").unwrap().unwrap().token;
    drop(keys);
    for file in std::fs::read_dir(home.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(64).any(|window| window == &token.as_bytes()[3..]));
    }
}
