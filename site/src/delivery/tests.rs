use super::*;

fn parcel<'a>(file: &'a str, serial: &str, der: &'a [u8]) -> Parcel<'a> {
    Parcel {
        file: OsStr::new(file),
        serial: serial.to_owned(),
        der,
        issuer_pem: "ISSUER\n",
        secrets: Vec::new(),
        earlier: Vec::new(),
    }
}

fn reissued<'a>(file: &'a str) -> Parcel<'a> {
    let superseded = |issue, der| Superseded {
        issue,
        der,
        issuer_pem: "ISSUER BEFORE\n",
        spki_sha256: Fingerprint::of(der),
    };
    Parcel {
        earlier: vec![superseded(0, b"first"), superseded(1, b"second")],
        ..parcel(file, "03", b"third")
    }
}

fn output(path: &Path) -> Output {
    Output::open(path).unwrap()
}

fn name(delivered: &Result<Delivered>) -> (String, bool) {
    let delivered = delivered.as_ref().unwrap();
    (
        delivered
            .path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned(),
        delivered.renamed,
    )
}

#[test]
fn two_certificates_of_one_name_both_arrive_and_the_same_one_arrives_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(folder.path());
    for _ in 0..2 {
        let delivered = output.deliver(vec![
            parcel("a.csr", "01", b"one"),
            parcel("a.der", "02", b"two"),
            parcel("a.pem", "01", b"one"),
        ]);
        let names: Vec<_> = delivered.iter().map(name).collect();
        assert_eq!(
            names,
            [("a.pem", false), ("a-02.pem", true), ("a.pem", false)]
                .map(|(name, renamed)| (name.to_owned(), renamed))
        );
    }
    let count = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(count, 4, "two certificates, two chains");
}

#[test]
fn what_stands_in_the_folder_is_never_overwritten_and_a_missing_chain_is_added() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.chain.pem"), "the operator's own").unwrap();
    std::fs::write(folder.path().join("b.pem"), to_pem("CERTIFICATE", b"two")).unwrap();
    std::fs::create_dir(folder.path().join("c.pem")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("d.pem")).unwrap();
    let parcels = vec![
        parcel("a.csr", "01", b"one"),
        parcel("b.csr", "02", b"two"),
        parcel("c.csr", "03", b"three"),
        parcel("d.csr", "04", b"four"),
    ];
    let delivered = output(folder.path()).deliver(parcels);
    let names: Vec<_> = delivered
        .iter()
        .map(|delivered| name(delivered).0)
        .collect();
    assert_eq!(names, ["a-01.pem", "b.pem", "c-03.pem", "d-04.pem"]);
    let chain = std::fs::read_to_string(folder.path().join("b.chain.pem")).unwrap();
    assert!(chain.ends_with("ISSUER\n"), "{chain}");
    let own = std::fs::read_to_string(folder.path().join("a.chain.pem")).unwrap();
    assert_eq!(own, "the operator's own");
}

#[test]
fn a_certificate_that_another_took_the_place_of_gives_way_and_is_kept() {
    let before = texts(b"second", "ISSUER BEFORE\n");
    let after = texts(b"third", "ISSUER\n");
    let names = [
        "a.pem",
        "a.chain.pem",
        "a.issue-1.pem",
        "a.issue-1.chain.pem",
    ];
    // Each moment at which the last try may have ended: what it had written by then.
    for written in 0..=names.len() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        std::fs::write(at("a.pem"), &before[0]).unwrap();
        std::fs::write(at("a.chain.pem"), &before[1]).unwrap();
        let steps = [
            (names[2], &before[0]),
            (names[3], &before[1]),
            (names[0], &after[0]),
            (names[1], &after[1]),
        ];
        for (name, text) in steps.into_iter().take(written) {
            std::fs::write(at(name), text).unwrap();
        }
        let output = output(folder.path());
        let delivered = output.deliver(vec![reissued("a.csr"), reissued("a.der")]);
        for delivered in &delivered {
            assert_eq!(name(delivered), ("a.pem".to_owned(), false));
        }
        let aside = delivered[0].as_ref().unwrap().aside.clone();
        assert_eq!(aside, (written < 3).then(|| at("a.issue-1.pem")));
        assert_eq!([read(names[0]), read(names[1])], after);
        assert_eq!([read(names[2]), read(names[3])], before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    }
}

#[test]
fn nothing_gives_way_that_cannot_be_kept_or_is_of_another_device() {
    for (there, text) in [
        ("a.pem", "of another device".to_owned()),
        ("a.issue-0.pem", "the operator's own".to_owned()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let read = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        let first = to_pem("CERTIFICATE", b"first");
        std::fs::write(at("a.pem"), &first).unwrap();
        std::fs::write(at(there), &text).unwrap();
        let delivered = output(folder.path()).deliver(vec![reissued("a.csr")]);
        assert_eq!(name(&delivered[0]), ("a-03.pem".to_owned(), true));
        assert_eq!(read(there), text);
        assert!(there == "a.pem" || read("a.pem") == first);
    }
}

#[test]
fn paths_are_shown_as_people_write_them() {
    for (path, shown) in [
        ("certs", "certs/a.pem"),
        ("./certs", "certs/a.pem"),
        (".", "a.pem"),
        ("../certs", "../certs/a.pem"),
        ("/srv/certs", "/srv/certs/a.pem"),
    ] {
        let output = Output {
            folder: Folder::open("/").unwrap(),
            path: PathBuf::from(path),
            hasher: RandomState::new(),
            on_the_way: OnTheWay::default(),
            there: Mutex::default(),
        };
        assert_eq!(output.shown(OsStr::new("a.pem")), Path::new(shown));
    }
}

#[test]
fn many_certificates_arrive_as_few_do() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..100).map(|number| format!("{number}.csr")).collect();
    let parcels: Vec<_> = names
        .iter()
        .map(|name| parcel(name, "01", name.as_bytes()))
        .collect();
    let delivered = output(folder.path()).deliver(parcels);
    for (delivered, name) in delivered.iter().zip(&names) {
        let text = std::fs::read_to_string(&delivered.as_ref().unwrap().path).unwrap();
        assert_eq!(text, to_pem("CERTIFICATE", name.as_bytes()));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 200);
}

#[test]
fn who_waits_for_a_name_that_is_on_the_way_is_seen_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(folder.path());
    let first = output.consign(vec![parcel("a.csr", "01", b"one")]);
    assert!(!output.is_awaited());
    std::thread::scope(|threads| {
        let second = threads.spawn(|| output.deliver(vec![parcel("a.der", "02", b"two")]));
        while !output.is_awaited() {
            assert!(!second.is_finished(), "nobody waited");
            std::thread::yield_now();
        }
        assert_eq!(name(&output.land(vec![first])[0][0]).0, "a.pem");
        assert_eq!(name(&second.join().unwrap()[0]).0, "a-02.pem");
    });
    assert!(!output.is_awaited());
}
