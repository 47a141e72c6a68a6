use super::{GOOD_FOR_S, Links};

#[test]
fn an_address_is_good_until_its_end_and_for_its_path() {
    let links = Links::new().expect("random numbers");
    let query = links.query("/files/a.png", 1000);
    assert!(links.is_good("/files/a.png", &query, 1000));
    assert!(links.is_good("/files/a.png", &format!("download=1&{query}"), 999 + GOOD_FOR_S));
    assert!(!links.is_good("/files/a.png", &query, 1000 + GOOD_FOR_S), "it has ended");
    assert!(!links.is_good("/files/b.png", &query, 1000), "it is another's");
}

#[test]
fn nobody_else_makes_or_changes_one() {
    let (links, others) = (Links::new().expect("random numbers"), Links::new().expect("random numbers"));
    let query = links.query("/files/a.png", 1000);
    let later = query.replace("exp=4600", "exp=9999");
    assert_ne!(later, query);
    for forged in
        [&others.query("/files/a.png", 1000), &later, "exp=9999&sig=", "exp=9999&sig=é", "exp=9999", "", "sig=00"]
    {
        assert!(!links.is_good("/files/a.png", forged, 1000), "{forged}");
    }
}
