//! What a corpus begins with: the fixtures, in the shape that each target takes.

use std::fs;
use std::path::Path;

use mintmark_ledger::log::{FileLog, LogStore};
use mintmark_ledger::state::State;
use mintmark_ledger::{fuzzing, replay::Replay};
use mintmark_pki::{Certificate, Crl, CrlReason, Issuer, RevokedSerial, crl_tbs, est};
use mintmark_protocol::audit_grant::{AuditGrant, MARK, Part, PartKind, trust_to_cbor};
use mintmark_protocol::backup::Entry;
use mintmark_protocol::cbor::{self, Map, bytes_head};
use mintmark_protocol::fork::ForkProof;
use mintmark_protocol::identifier::Fingerprint;

use crate::messages::KINDS;
use crate::world::{WORLD, bytes, json, vector_names};
use crate::{Target, backup, files, workspace};

/// What a target begins with.
pub fn of(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds = match target.name {
        "cbor" => [contents(), messages(), WORLD.records.clone()].concat(),
        "message_content" => typed_contents(),
        "message_envelope" => [messages(), others()].concat(),
        "message_opened" => [messages(), attacks()].concat(),
        "segment" => segments(),
        "device_ids" => lines(&[
            "TH200-00000001\nTH200-00000100..TH200-00000199",
            "a..a\nb0..b9\nc8..c11",
            "0..999999\nx",
        ]),
        "media_name" => media_names()
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect(),
        "media_folder" => media_folders(),
        "audit_grant_file" => vec![grant_file()],
        "csr" => [
            requests(),
            requests()
                .iter()
                .map(|csr| est::encode_body(csr).into_bytes())
                .collect(),
        ]
        .concat(),
        "certificate" => {
            let ders = certificates().into_iter().map(|it| it.der().to_vec());
            ders.flat_map(|der| [pem("CERTIFICATE", &der), der])
                .collect()
        }
        "crl" => signed_and_unsigned_crls(),
        "est" => est_bodies(),
        "policy" => in_folder(&workspace().join("policies")),
        "log_record" => WORLD.records.clone(),
        "replay" => replays(),
        "snapshot" => snapshots(),
        "index_value" => index_values(),
        "log_folder" => log_folders(),
        "log_pruned" => vec![log_pruned()],
        "anchor" => vec![anchor(None), anchor(Some(vec![5; 16]))],
        "site_config" => lines(&[
            "schema = 1\nsite = \"berlin\"\nvault = \"v1\"\nkeys = \"file:/var/lib/keys?pin-source=/etc/pin\"\n",
        ]),
        "station_body" => station_bodies(),
        "station_lines" => lines(&[
            "\u{3}{\"csr\":\"a\"}\n\n {\"csr\":\"b\"}\r\n{",
            "\u{40}one\ntwo\n",
        ]),
        "command" => commands(),
        "key_uri" => lines(&[
            "file:keys",
            "file:///var/lib/keys?pin-source=file:/etc/pin",
            "pkcs11:token=hq;serial=1;manufacturer=SoftHSM;model=v2?module-path=/lib/p.so&pin-source=/etc/pin",
            "pkcs11:object=root;type=private;id=%01%02;slot-id=7?module-path=%2Flib%2Fp.so",
        ]),
        "key_file" => vec![],
        "hq_config" => lines(&[
            "schema = 1\nrole = \"hq\"\nname = \"acme\"\n[keys]\nmain = \"file:/k\"\nroot = \"file:/k\"\ndispatch = \"file:/k\"\naudit = \"file:/k\"\n",
            "schema = 1\nsite = \"berlin\"\nvault = \"v1\"\nkeys = \"file:/var/lib/keys\"\n",
        ]),
        "pin_file" => lines(&["1234", "471100\n", "a longer one\r\n", "two\nlines\n", "\n"]),
        // It has other bytes each time: one is kept.
        "backup_file" => match backup_is_kept(target) {
            true => vec![],
            false => vec![backup::sealed()],
        },
        "backup_stream" => backup_streams(),
        "recovery_words" => lines(&backup::sheet().each_ref().map(String::as_str)),
        "recovery_key" => lines(&[&backup::public_text()]),
        _ => panic!("no seeds for {}", target.name),
    };
    seeds.retain(|seed| seed.len() <= target.bytes_max);
    seeds
}

fn lines(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn backup_is_kept(target: &Target) -> bool {
    fs::read_dir(target.corpus()).is_ok_and(|mut kept| kept.next().is_some())
}

/// Files of a home as they stand in a backup, whole and in pieces.
fn backup_streams() -> Vec<Vec<u8>> {
    let mut stream = Vec::new();
    for (path, content) in [
        ("record/a", &b"the first"[..]),
        ("empty", b""),
        ("log/0", b"0"),
    ] {
        let entry = Entry {
            path: path.to_owned(),
            bytes: content.len() as u64,
        };
        let entry = entry.to_cbor();
        stream.extend_from_slice(&bytes_head(entry.len() as u64));
        stream.extend_from_slice(&entry);
        stream.extend_from_slice(content);
    }
    [[255].as_slice(), &[1]]
        .map(|length| [length, &stream].concat())
        .to_vec()
}

fn contents() -> Vec<Vec<u8>> {
    vector_names()
        .iter()
        .map(|name| bytes(&format!("{name}.cbor")))
        .collect()
}

fn messages() -> Vec<Vec<u8>> {
    vector_names()
        .iter()
        .map(|name| bytes(&format!("{name}.cose")))
        .collect()
}

/// Every file directly in a folder.
fn in_folder(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let files = paths.iter().filter(|path| path.is_file());
    files.map(|path| fs::read(path).unwrap()).collect()
}

/// The messages of the attacks.
pub(crate) fn attacks() -> Vec<Vec<u8>> {
    let attacks = workspace().join("fixtures/attacks");
    let mut folders: Vec<_> = fs::read_dir(attacks)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    folders.sort();
    let folders = folders.iter().filter(|path| path.is_dir());
    folders
        .flat_map(|folder| in_folder(folder))
        .filter(|file| !file.starts_with(b"{"))
        .collect()
}

fn typed_contents() -> Vec<Vec<u8>> {
    let typed = vector_names().into_iter().filter_map(|name| {
        let said = json(&format!("{name}.json"));
        let kind = KINDS.iter().position(|kind| said["type"] == *kind)?;
        Some([&[kind as u8], bytes(&format!("{name}.cbor")).as_slice()].concat())
    });
    typed.collect()
}

/// What has no envelope.
fn others() -> Vec<Vec<u8>> {
    let trust = ["trust-manifest-1.cose", "trust-manifest-2.cose"]
        .map(bytes)
        .to_vec();
    let bundles = ["audit-bundle-1.cose", "audit-bundle-2.cose"].map(bytes);
    let proof = ForkProof {
        trust: trust.clone(),
        identity_certificate: certificates()[0].der().to_vec(),
        statements: bundles,
        opening: None,
        consistency: vec![Fingerprint::of(b"one")],
    };
    let entry = Map::new().with(1, "log/0000.log").with(2, 5_u64).encode();
    vec![proof.to_cbor(), trust_to_cbor(&trust), entry]
}

fn segments() -> Vec<Vec<u8>> {
    let named = vector_names()
        .into_iter()
        .filter(|name| name.starts_with("audit-segment"));
    let segments = named.filter_map(|name| {
        let plaintext = bytes(&format!("{name}.cbor"));
        let mut fields = cbor::Fields::decode("segment", &plaintext, plaintext.len()).unwrap();
        let (first, count) = (fields.uint(2).unwrap(), fields.uint(3).unwrap());
        let facts = [u8::try_from(first).ok()?, u8::try_from(count).ok()?];
        Some([&facts[..], &plaintext].concat())
    });
    segments.collect()
}

/// The requests among the fixtures, whether they are taken or not.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let csr = workspace().join("fixtures/csr");
    [
        in_folder(&csr.join("accepted")),
        in_folder(&csr.join("refused")),
    ]
    .concat()
}

/// What in the contents of the messages has the form of a DER object.
fn ders() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for content in contents()
        .into_iter()
        .chain([bytes("trust-manifest-1.cbor")])
    {
        for at in 0..content.len() {
            let length = match content.get(at..at + 4) {
                Some([0x30, 0x82, high, low]) => usize::from(u16::from_be_bytes([*high, *low])) + 4,
                Some([0x30, 0x81, low, _]) => usize::from(*low) + 3,
                _ => continue,
            };
            found.extend(content.get(at..at + length).map(<[u8]>::to_vec));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The certificates in the messages.
pub(crate) fn certificates() -> Vec<Certificate> {
    ders()
        .iter()
        .filter_map(|der| Certificate::from_der(der).ok())
        .collect()
}

/// The CRLs in the messages.
pub(crate) fn crls(issuers: &[Issuer]) -> Vec<Crl> {
    let ders = ders();
    let read = |der: &Vec<u8>| {
        issuers
            .iter()
            .find_map(|issuer| Crl::from_der(der, issuer).ok())
    };
    ders.iter().filter_map(read).collect()
}

/// CRLs with a byte before them that says whether they are to be signed first.
fn signed_and_unsigned_crls() -> Vec<Vec<u8>> {
    let [_, device_ca] = &WORLD.issuers;
    let revoked = [None, CrlReason::from_number(1), CrlReason::from_number(4)];
    let revoked: Vec<RevokedSerial> = (1..)
        .zip(revoked)
        .map(|(number, reason)| RevokedSerial {
            serial: vec![number, 2, 3],
            revoked_at_unix: 1_800_000_000,
            reason,
        })
        .collect();
    let whole = crl_tbs(device_ca, 7, 1_800_000_000, 1_900_000_000, &revoked).unwrap();
    let crls = crls(&WORLD.issuers);
    let found = crls.iter().flat_map(|crl| {
        let pem = pem("X509 CRL", crl.der());
        [(1, crl.tbs_der()), (0, crl.der()), (0, pem.as_slice())]
            .map(|(flag, bytes)| [&[flag], bytes].concat())
    });
    found.chain([[&[1], whole.as_slice()].concat()]).collect()
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    mintmark_pki::to_pem(label, der).into_bytes()
}

fn media_names() -> Vec<String> {
    [
        "trust-000001.cose",
        "enrol-berlin_v1.cose",
        "restore-berlin_v1.cose",
        "draft-th200.cose",
        "approval-th200_alice.cose",
        "to-berlin_v1/dispatch-1-000001.cose",
        "to-berlin_v1/tail-000001.cose",
        "to-hq/berlin_v1_00112233445566778899aabbccddeeff-000001.cose",
        "to-hq/berlin_v1_00112233445566778899aabbccddeeff-000001.seg0001",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn media_folders() -> Vec<Vec<u8>> {
    let whole: Vec<String> = media_names()
        .iter()
        .map(|name| format!("f{name}"))
        .collect();
    let odd =
        "f.part\nltrust-000001.cose\nltrust-000002.cose\ndto-hq\nlto-berlin_v1\nfto-x/y\nf\u{fffd}"
            .to_owned();
    vec![whole.join("\n").into_bytes(), odd.into_bytes()]
}

fn grant_file() -> Vec<u8> {
    let item = |bytes: Vec<u8>| cbor::encode(&bytes.into());
    let mut grant = AuditGrant::from_cbor(&bytes("audit-grant.cbor")).unwrap();
    let parts = ["a part", "another part"];
    let known = grant
        .parts
        .iter()
        .find(|part| part.kind != PartKind::TrustManifest);
    let known: Part = *known.expect("a part");
    grant.parts = parts
        .iter()
        .map(|bytes| Part {
            digest: Fingerprint::of(bytes.as_bytes()),
            bytes: bytes.len() as u64,
            ..known
        })
        .collect();
    let mut file = cbor::encode(&MARK.into());
    let manifests = [bytes("trust-manifest-1.cose")];
    file.extend(item(trust_to_cbor(&manifests)));
    file.extend(item(grant.to_cbor()));
    parts
        .iter()
        .for_each(|part| file.extend(item(part.as_bytes().to_vec())));
    file
}

fn est_bodies() -> Vec<Vec<u8>> {
    let certificates = certificates();
    let two: Vec<&[u8]> = certificates.iter().take(2).map(Certificate::der).collect();
    let attributes = est::CsrAttributes {
        subject_serial_number: true,
        challenge_password: true,
        keys: Some(vec![
            mintmark_pki::KeyAlgorithm::P256,
            mintmark_pki::KeyAlgorithm::P384,
        ]),
    };
    let rsa = est::CsrAttributes {
        keys: Some(vec![mintmark_pki::KeyAlgorithm::Rsa3072]),
        ..est::CsrAttributes::default()
    };
    let messages = [
        est::certs_only(&two).unwrap(),
        attributes.to_der(),
        rsa.to_der(),
    ];
    let bodies = messages
        .iter()
        .map(|der| est::encode_body(der).into_bytes());
    [bodies.collect(), messages.to_vec()].concat()
}

/// The bytes with their length before them.
fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn replays() -> Vec<Vec<u8>> {
    let records = &WORLD.records;
    let whole: Vec<u8> = records.iter().flat_map(|record| counted(record)).collect();
    let each = (0..records.len()).map(|at| {
        let rest = records[at..]
            .iter()
            .take(2)
            .flat_map(|record| counted(record));
        [at as u8].into_iter().chain(rest).collect()
    });
    each.chain([[&[0], whole.as_slice()].concat()]).collect()
}

/// The states of the log after some of its records: bare, and as the file in which a vault keeps one.
fn snapshots() -> Vec<Vec<u8>> {
    let mut replay = Replay::new();
    let serials = crate::ledger::serials();
    let mut states: Vec<State> = Vec::new();
    for (at, record) in WORLD.records.iter().enumerate() {
        replay
            .feed(&crate::ledger::Nobody, Some(serials), record, None)
            .unwrap();
        if at % 6 == 5 {
            states.push(replay.state().clone());
        }
    }
    states.push(replay.state().clone());
    let seeds = states.iter().flat_map(|state| {
        let bare = state.to_snapshot();
        let mut file = [
            b"MMSNAP1\0".as_slice(),
            &[0; 32],
            &state.size().to_be_bytes(),
            &[0; 40],
            &bare,
        ]
        .concat();
        fuzzing::mend_snapshot(&mut file);
        [
            [&[0], bare.as_slice()].concat(),
            [&[1], file.as_slice()].concat(),
        ]
    });
    seeds.collect()
}

fn index_values() -> Vec<Vec<u8>> {
    let bucket = b"\x00\x00\x05dTH-2\x04\x80\x01\x04\x010\x05abc\x06\x010\x00".to_vec();
    let head = [&[1, 2][..], &[0; 56]].concat();
    let mark = [&[3][..], b"MMHEAD1\0", &[0; 52]].concat();
    vec![
        bucket,
        head,
        mark,
        b"\x00\x00\x01a\x02\x00\x02bc\x07xyz".to_vec(),
    ]
}

/// A log of the fixtures' records in files of some kilobytes.
fn log(folder: &Path) -> FileLog {
    let log = FileLog::create(folder).unwrap();
    let mut log = log.with_segment_bytes_max(2 << 10);
    let records: Vec<&Vec<u8>> = WORLD.records.iter().filter(|it| it.len() < 700).collect();
    for group in records.chunks(3).take(4) {
        let group: Vec<Vec<u8>> = group.iter().map(|record| record.to_vec()).collect();
        let head = log.head();
        log.append(&head, &group).unwrap();
    }
    log
}

fn read(folder: &Path, end: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|it| it.unwrap().path())
        .collect();
    paths.sort();
    let files = paths
        .iter()
        .filter(|path| path.to_string_lossy().ends_with(end));
    files.map(|path| fs::read(path).unwrap()).collect()
}

fn log_folders() -> Vec<Vec<u8>> {
    let temporary = files::folder();
    let folder = temporary.path().join("log");
    drop(log(&folder));
    let files = [read(&folder, "head"), read(&folder, ".log")].concat();
    let all = |flags: u8, files: &[Vec<u8>]| {
        let files = files.iter().flat_map(|file| counted(file));
        [flags].into_iter().chain(files).collect::<Vec<u8>>()
    };
    vec![
        all(8, &files),
        all(0, &files[1..]),
        all(7, &files[1..2]),
        all(15, &files),
    ]
}

fn log_pruned() -> Vec<u8> {
    let temporary = files::folder();
    let folder = temporary.path().join("log");
    let mut log = log(&folder);
    let mut even = false;
    log.prepare_prune(6, &mut |record| {
        even = !even;
        Ok(even.then(|| record.bytes[..4].to_vec()))
    })
    .unwrap();
    log.finish_prune().unwrap();
    drop(log);
    let (kept, whole) = (read(&folder, ".pruned"), read(&folder, ".log"));
    [&[3][..], &counted(&kept[0]), &whole[0]].concat()
}

fn anchor(drawn: Option<Vec<u8>>) -> Vec<u8> {
    let map = || {
        Map::new()
            .with(1, 1_u64)
            .with(2, 5_u64)
            .with(3, "berlin")
            .with(4, "v1")
            .with(5, vec![7_u8; 16])
            .with(6, 25_u64)
            .with(7, vec![8_u8; 32])
            .with(8, vec![9_u8; 32])
            .with_array(9, [1_u64, 256, 2, 512])
            .with_some(11, drawn.clone())
    };
    let digest = Fingerprint::of(&map().encode());
    map().with(10, digest.as_bytes().to_vec()).encode()
}

fn station_bodies() -> Vec<Vec<u8>> {
    let csr = fs::read(workspace().join("fixtures/csr/accepted/p256.der")).unwrap();
    let base64 = est::encode_body_in_one_line(&csr);
    let pem = mintmark_pki::to_pem("CERTIFICATE REQUEST", &csr);
    let bodies = [
        serde_json::json!({"product": "TH-200", "csr": base64, "again": true, "id": 7}),
        serde_json::json!({"csr": pem}),
        serde_json::json!({"reason": "broken", "product": "TH-200"}),
    ];
    bodies
        .iter()
        .map(|body| body.to_string().into_bytes())
        .collect()
}

fn commands() -> Vec<Vec<u8>> {
    let commands = [
        &["status", "--json"][..],
        &["media", "export", "stick"],
        &["crl", "export", "--out", "x"],
    ];
    let framed = commands.iter().map(|words| {
        let words: Vec<String> = words.iter().map(hex::encode).collect();
        let request = serde_json::json!({"version": 1, "words": words, "folder": hex::encode("/"), "color": false});
        let request = request.to_string();
        [&(request.len() as u32).to_be_bytes(), request.as_bytes()].concat()
    });
    framed.collect()
}

/// Writes what is not there yet into the corpus of each target.
pub fn write() {
    for target in crate::TARGETS {
        let corpus = target.corpus();
        fs::create_dir_all(&corpus).unwrap();
        for seed in of(target) {
            let name = Fingerprint::of(&seed).to_string();
            let path = corpus.join(&name[..16]);
            if !path.exists() {
                fs::write(path, seed).unwrap();
            }
        }
    }
}
