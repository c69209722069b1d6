//! PKCS#11 stores, with SoftHSM as the token and OpenSC and OpenSSL as judges.
// Clippy takes only the test functions of such a file for tests, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "token/sessions.rs"]
mod sessions;
mod softhsm;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectClass};
use mintmark_keys::{Class, Error, KeyKind, KeyStore, Pin, Purpose, create, open, verify};
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{EncodePublicKey, LineEnding};
use softhsm::{
    P384, PIN, SoftHsm, never, private_template, public_template, run, softhsm_module, spy_module,
};

/// Asserts the code and the class of an error.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: &str, class: Class) -> Error {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.class()), (code, class), "{error}");
    assert!(error.hint().is_some(), "{error} has no hint");
    error
}

/// The lines `Usage:` and `Access:` that pkcs11-tool prints for each private key.
fn listed(hsm: &SoftHsm, token: &str) -> BTreeMap<String, (String, String)> {
    let listing = hsm.pkcs11_tool(token, &["--list-objects", "--type", "privkey"]);
    let mut keys = BTreeMap::new();
    let mut label = String::new();
    let mut usage = String::new();
    for line in listing.lines() {
        match line.trim().split_once(':') {
            Some(("label", value)) => label = value.trim().into(),
            Some(("Usage", value)) => usage = value.trim().into(),
            Some(("Access", value)) => {
                keys.insert(label.clone(), (usage.clone(), value.trim().into()));
            }
            _ => {}
        }
    }
    keys
}

/// Plants a key pair that another program might have made.
fn plant(hsm: &SoftHsm, token: &str, label: &str, private: &[Attribute], public: &[Attribute]) {
    let session = hsm.session(token);
    session
        .generate_key_pair(
            &Mechanism::EccKeyPairGen,
            &public_template(label, public),
            &private_template(label, private),
        )
        .unwrap();
}

with_softhsm! {
    fn a_generated_key_is_listed_sensitive_unextractable_local_and_of_one_use(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        let sign = store.generate("vault-sign", Purpose::Sign).unwrap();
        let agree = store.generate("vault-agree", Purpose::Agree).unwrap();
        assert_ne!(sign, agree);
        let access = String::from("sensitive, always sensitive, never extractable, local");
        assert_eq!(
            listed(hsm, "vault"),
            BTreeMap::from([
                ("vault-sign".into(), ("sign".into(), access.clone())),
                ("vault-agree".into(), ("derive".into(), access)),
            ])
        );
        assert_eq!(store.find("vault-sign", Purpose::Sign).unwrap(), Some(sign));
        assert_eq!(store.find("vault-agree", Purpose::Agree).unwrap(), Some(agree));
        assert_eq!(store.find("root", Purpose::Sign).unwrap(), None);
    }

    fn a_signature_is_low_s_and_verifies_with_openssl(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let signer = store.signer("vault-sign").unwrap();
        let public = hsm.folder.join("public.pem");
        fs::write(&public, signer.public_key().to_public_key_pem(LineEnding::LF).unwrap()).unwrap();
        let message = hsm.folder.join("message");
        // Sixteen, since a token gives the high form half of the time.
        for count in 0..16 {
            let text = format!("message {count}");
            let signature = signer.sign(text.as_bytes()).unwrap();
            assert_eq!(signature.normalize_s(), signature);
            assert!(verify(signer.public_key(), text.as_bytes(), &signature));
            assert!(!verify(signer.public_key(), b"another message", &signature));
            fs::write(&message, &text).unwrap();
            let file = hsm.folder.join("signature");
            fs::write(&file, signature.to_der().as_bytes()).unwrap();
            run(Command::new("openssl").args(["dgst", "-sha256", "-verify"]).arg(&public).arg("-signature").arg(&file).arg(&message));
        }
        signer.sign(b"").unwrap();
        signer.sign(&vec![7; 1 << 20]).unwrap();
    }

    fn a_token_and_a_folder_agree_on_the_same_secret(hsm) {
        hsm.token("vault");
        let token = open(&hsm.uri("token=vault"), &never).unwrap();
        let folder = format!("file:{}?pin-source=file:{}", hsm.folder.join("keys").display(), hsm.pin_file().display());
        let folder = create(&folder.parse().unwrap(), &never).unwrap();
        token.generate("vault-agree", Purpose::Agree).unwrap();
        folder.generate("officer-agree", Purpose::Agree).unwrap();
        let (ours, theirs) = (token.agreement("vault-agree").unwrap(), folder.agreement("officer-agree").unwrap());
        let secret = ours.agree(theirs.public_key()).unwrap();
        assert_eq!(secret, theirs.agree(ours.public_key()).unwrap());
        assert_ne!(*secret, [0; 32]);
        // Nothing of it stays in the token.
        let session = hsm.session("vault");
        assert_eq!(session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]).unwrap().len(), 0);
    }

    fn a_secret_that_begins_with_zero_keeps_its_zero(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        let public = store.generate("vault-agree", Purpose::Agree).unwrap();
        let agreement = store.agreement("vault-agree").unwrap();
        let (secret, shared) = (1_u64..)
            .map(|scalar| {
                let mut bytes = [0; 32];
                bytes[24..].copy_from_slice(&scalar.to_be_bytes());
                let secret = SecretKey::from_slice(&bytes).unwrap();
                let shared = secret.diffie_hellman(&public).raw_secret_bytes().to_vec();
                (secret, shared)
            })
            .find(|(_, shared)| shared[0] == 0)
            .unwrap();
        assert_eq!(agreement.agree(&secret.public_key()).unwrap().to_vec(), shared);
    }

    fn a_wrong_pin_is_tried_once(hsm) {
        hsm.token("vault");
        let uri = hsm.uri_with_pin(&spy_module(), "token=vault", &hsm.pin_file_of("999999"));
        let error = refused(open(&uri, &never), "PIN-INCORRECT", Class::Environment);
        assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("999999"));
        assert_eq!(hsm.calls("C_Login"), 1);
        // And it did no harm.
        open(&hsm.uri_through(&spy_module(), "token=vault"), &never).unwrap();
        assert_eq!(hsm.calls("C_Login"), 2);
    }

    fn a_pin_that_was_changed_meanwhile_is_tried_once_more_and_never_again(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri_through(&spy_module(), "token=vault"), &never).unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let signer = store.signer("vault-sign").unwrap();
        hsm.pkcs11_tool("vault", &["--change-pin", "--new-pin", "00000000"]);
        // SoftHSM remembers the old PIN for as long as it runs.
        hsm.module().finalize().unwrap();
        for _ in 0..5 {
            refused(signer.sign(b"message"), "PIN-INCORRECT", Class::Environment);
            refused(store.find("vault-sign", Purpose::Sign), "PIN-INCORRECT", Class::Environment);
        }
        assert_eq!(hsm.calls("C_Login"), 2);
    }

    fn the_pin_is_asked_for_only_where_the_uri_names_no_file_and_the_token_is_there(hsm) {
        let serial = hsm.token("vault");
        let asked = Mutex::new(Vec::new());
        let prompt = |question: &str| {
            asked.lock().unwrap().push(question.to_owned());
            Ok(Pin::new(PIN.into()))
        };
        let module = softhsm_module();
        let without_pin = |attributes: &str| format!("pkcs11:{attributes}?module-path={}", module.display()).parse().unwrap();
        refused(open(&without_pin("token=elsewhere"), &prompt), "TOKEN-MISSING", Class::Environment);
        assert!(asked.lock().unwrap().is_empty());
        open(&without_pin("token=vault"), &prompt).unwrap();
        let asked = asked.into_inner().unwrap();
        assert_eq!(asked.len(), 1);
        assert!(asked[0].contains("vault") && asked[0].contains(&serial), "{asked:?}");
        // In this process the token is logged in now, so only a cancelled prompt can fail.
        let cancel = |_: &str| Err(std::io::ErrorKind::Interrupted.into());
        refused(open(&without_pin("token=vault"), &cancel), "PIN-NOT-GIVEN", Class::Environment);
    }

    fn a_pin_file_that_is_missing_or_empty_is_an_error_of_its_own(hsm) {
        hsm.token("vault");
        let module = spy_module();
        for path in [Path::new("/nonexistent/pin"), &hsm.pin_file_of("")] {
            let uri = hsm.uri_with_pin(&module, "token=vault", path);
            let error = refused(open(&uri, &never), "PIN-SOURCE-UNREADABLE", Class::Environment);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        assert_eq!(hsm.calls("C_Login"), 0);
    }

    fn an_absent_module_and_a_file_that_is_none_are_told_apart(hsm) {
        let at = |path: &Path| hsm.uri_through(path, "token=vault");
        refused(open(&at(Path::new("/nonexistent/module.so")), &never), "MODULE-MISSING", Class::Environment);
        refused(open(&at(&hsm.pin_file().join("module.so")), &never), "MODULE-MISSING", Class::Environment);
        let text = hsm.folder.join("text.so");
        fs::write(&text, "not a library").unwrap();
        refused(open(&at(&text), &never), "MODULE-INVALID", Class::Environment);
        refused(open(&at(&hsm.folder), &never), "MODULE-INVALID", Class::Environment);
        // A library, but not of this kind: the C library that this process runs on.
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("/libc.so"));
        refused(open(&at(Path::new(libc.unwrap())), &never), "MODULE-INVALID", Class::Environment);
    }

    fn a_module_without_tokens_says_so(hsm) {
        let error = refused(open(&hsm.uri("token=vault"), &never), "TOKEN-MISSING", Class::Environment);
        assert!(error.to_string().contains("no token at all"), "{error}");
    }

    fn a_missing_token_is_answered_with_those_that_are_there(hsm) {
        let serial = hsm.token("other");
        for attributes in ["token=vault", "serial=0000", "token=other;serial=0000", "slot-id=999", "model=x;token=other", "manufacturer=x"] {
            let error = refused(open(&hsm.uri(attributes), &never), "TOKEN-MISSING", Class::Environment);
            assert!(error.to_string().contains("other") && error.to_string().contains(&serial), "{error}");
        }
        open(&hsm.uri("token=other;manufacturer=SoftHSM%20project;model=SoftHSM%20v2"), &never).unwrap();
        open(&hsm.uri(""), &never).unwrap();
    }

    fn two_tokens_of_one_label_want_a_serial(hsm) {
        let serials = [hsm.token("vault"), hsm.token("vault")];
        let error = refused(open(&hsm.uri("token=vault"), &never), "TOKEN-AMBIGUOUS", Class::Environment);
        assert!(serials.iter().all(|serial| error.to_string().contains(serial)), "{error}");
        assert!(error.hint().unwrap().contains("serial="));
        for serial in &serials {
            let store = open(&hsm.uri(&format!("token=vault;serial={serial}")), &never).unwrap();
            assert_eq!(store.facts().serial, *serial);
        }
    }

    fn many_stores_of_one_module_start_it_once(hsm) {
        let module = spy_module();
        let link = hsm.folder.join("link.so");
        std::os::unix::fs::symlink(&module, &link).unwrap();
        for token in ["a", "b", "c"] {
            hsm.token(token);
        }
        let paths = [module.as_path(), &link, &module];
        let stores = std::thread::scope(|scope| {
            ["a", "b", "c"].iter().zip(paths)
                .map(|(token, path)| scope.spawn(move || open(&hsm.uri_through(path, &format!("token={token}")), &never).unwrap()))
                .collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(hsm.calls("C_Initialize"), 1);
        let publics: Vec<_> = stores.iter().map(|store| store.generate("root", Purpose::Sign).unwrap()).collect();
        for (store, public) in stores.iter().zip(&publics) {
            assert_eq!(store.signer("root").unwrap().public_key(), public);
            store.signer("root").unwrap().sign(b"message").unwrap();
        }
    }

    fn a_missing_key_is_an_error_to_use_and_none_to_find(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        assert_eq!(store.find("root", Purpose::Sign).unwrap(), None);
        refused(store.signer("root"), "KEY-MISSING", Class::Environment);
        refused(store.agreement("root"), "KEY-MISSING", Class::Environment);
        refused(store.signer("../root"), "LABEL-INVALID", Class::Usage);
    }

    fn a_taken_label_is_never_taken_again(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        let public = store.generate("root", Purpose::Sign).unwrap();
        refused(store.generate("root", Purpose::Sign), "KEY-EXISTS", Class::Environment);
        refused(store.generate("root", Purpose::Agree), "KEY-EXISTS", Class::Environment);
        assert_eq!(store.find("root", Purpose::Sign).unwrap(), Some(public));
        // A key that must not be used takes its label all the same.
        plant(hsm, "vault", "planted", &[Attribute::Sensitive(false)], &[]);
        refused(store.generate("planted", Purpose::Sign), "KEY-EXISTS", Class::Environment);
    }

    fn a_key_of_the_other_purpose_is_refused(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        store.generate("vault-agree", Purpose::Agree).unwrap();
        refused(store.find("vault-sign", Purpose::Agree), "KEY-ATTRIBUTES", Class::Integrity);
        refused(store.agreement("vault-sign"), "KEY-ATTRIBUTES", Class::Integrity);
        refused(store.signer("vault-agree"), "KEY-ATTRIBUTES", Class::Integrity);
    }

    fn a_key_with_one_wrong_attribute_is_refused_by_its_name(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        let cases = [
            ("CKA_PRIVATE", vec![Attribute::Private(false)], vec![]),
            ("CKA_SENSITIVE", vec![Attribute::Sensitive(false)], vec![]),
            ("CKA_EXTRACTABLE", vec![Attribute::Extractable(true)], vec![]),
            ("CKA_SIGN", vec![Attribute::Sign(false)], vec![]),
            ("CKA_DERIVE", vec![Attribute::Derive(true)], vec![]),
            ("CKA_DECRYPT", vec![Attribute::Decrypt(true)], vec![]),
            ("CKA_UNWRAP", vec![Attribute::Unwrap(true)], vec![]),
            ("CKA_SIGN_RECOVER", vec![Attribute::SignRecover(true)], vec![]),
            ("CKA_ALWAYS_AUTHENTICATE", vec![Attribute::AlwaysAuthenticate(true)], vec![]),
            ("CKA_TOKEN", vec![Attribute::Token(false)], vec![]),
            ("CKA_EC_PARAMS", vec![], vec![Attribute::EcParams(P384.into())]),
        ];
        let session = hsm.session("vault");
        for (attribute, private, public) in &cases {
            let label = attribute.to_lowercase().replace('_', "-");
            session
                .generate_key_pair(&Mechanism::EccKeyPairGen, &public_template(&label, public), &private_template(&label, private))
                .unwrap();
            let error = refused(store.find(&label, Purpose::Sign), "KEY-ATTRIBUTES", Class::Integrity);
            assert!(error.to_string().contains(&format!("{attribute} is ")), "{attribute}: {error}");
            refused(store.signer(&label), "KEY-ATTRIBUTES", Class::Integrity);
        }
        // The same key without a change is none of them.
        plant(hsm, "vault", "proper", &[], &[]);
        store.signer("proper").unwrap().sign(b"message").unwrap();
        let described = store.labels().unwrap();
        assert_eq!(described.len(), cases.len() + 1);
        for key in described {
            assert_eq!(key.problem.is_none(), key.label == "proper", "{key:?}");
        }
    }

    fn a_key_that_was_once_open_or_came_from_outside_is_refused(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        let session = hsm.session("vault");
        let (_, private) = session
            .generate_key_pair(
                &Mechanism::EccKeyPairGen,
                &public_template("closed-late", &[]),
                &private_template("closed-late", &[Attribute::Sensitive(false), Attribute::Extractable(true)]),
            )
            .unwrap();
        session.update_attributes(private, &[Attribute::Sensitive(true)]).unwrap();
        session.update_attributes(private, &[Attribute::Extractable(false)]).unwrap();
        let error = refused(store.find("closed-late", Purpose::Sign), "KEY-ATTRIBUTES", Class::Integrity);
        assert!(error.to_string().contains("CKA_ALWAYS_SENSITIVE is false"), "{error}");

        let (plain, der) = (hsm.folder.join("plain.pem"), hsm.folder.join("plain.der"));
        run(Command::new("openssl").args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]).arg(&plain));
        run(Command::new("openssl").args(["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in"]).arg(&plain).arg("-out").arg(&der));
        hsm.pkcs11_tool("vault", &["--write-object", der.to_str().unwrap(), "--type", "privkey", "--label", "imported", "--id", "09", "--usage-sign", "--sensitive"]);
        refused(store.find("imported", Purpose::Sign), "KEY-ATTRIBUTES", Class::Integrity);
    }

    fn a_key_of_another_program_is_refused_and_described(hsm) {
        hsm.token("vault");
        hsm.pkcs11_tool("vault", &["--keypairgen", "--key-type", "EC:prime256v1", "--label", "foreign", "--id", "01", "--usage-sign"]);
        hsm.pkcs11_tool("vault", &["--keypairgen", "--key-type", "rsa:2048", "--label", "rsa", "--id", "02"]);
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let error = refused(store.signer("foreign"), "KEY-ATTRIBUTES", Class::Integrity);
        assert!(error.to_string().contains("CKA_DECRYPT is true"), "{error}");
        let described = store.labels().unwrap();
        let shown: Vec<_> = described.iter().map(|key| (key.label.as_str(), key.purpose, key.problem.as_deref().unwrap_or(""))).collect();
        assert_eq!((shown[0].0, shown[0].1), ("foreign", Some(Purpose::Sign)));
        assert!(shown[0].2.contains("CKA_DECRYPT"), "{shown:?}");
        assert_eq!(shown[1].0, "rsa");
        // Such a key could only be one that unwraps, and this one decrypts too.
        assert_eq!(described[1].kind, KeyKind::Transport);
        assert!(shown[1].2.contains("CKA_DECRYPT") || shown[1].2.contains("CKA_UNWRAP"), "{shown:?}");
        assert_eq!(shown[2], ("vault-sign", Some(Purpose::Sign), ""));
    }

    fn two_keys_of_one_label_are_refused(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        plant(hsm, "vault", "root", &[], &[]);
        plant(hsm, "vault", "root", &[], &[]);
        let error = refused(store.find("root", Purpose::Sign), "KEY-AMBIGUOUS", Class::Integrity);
        assert!(error.to_string().contains("2 keys"), "{error}");
        refused(store.signer("root"), "KEY-AMBIGUOUS", Class::Integrity);
        refused(store.generate("root", Purpose::Sign), "KEY-EXISTS", Class::Environment);
        assert!(store.labels().unwrap().iter().all(|key| key.problem.as_ref().unwrap().contains("CKA_LABEL")));
    }

    fn a_public_key_that_was_exchanged_or_removed_is_noticed(hsm) {
        hsm.token("vault");
        for (purpose, usage) in [(Purpose::Sign, [Attribute::Sign(true), Attribute::Derive(false)]), (Purpose::Agree, [Attribute::Sign(false), Attribute::Derive(true)])] {
            let label = purpose.as_str();
            plant(hsm, "vault", label, &usage, &[]);
            let store = open(&hsm.uri("token=vault"), &never).unwrap();
            store.find(label, purpose).unwrap().unwrap();
            let session = hsm.session("vault");
            let public = session.find_objects(&[Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Label(label.into())]).unwrap();
            session.destroy_object(public[0]).unwrap();
            let error = refused(store.find(label, purpose), "KEY-ATTRIBUTES", Class::Integrity);
            assert!(error.to_string().contains("no public key object"), "{error}");
            let foreign = SecretKey::from_slice(&[7; 32]).unwrap().public_key().to_sec1_point(false);
            let wrapped = [&[0x04, 65], foreign.as_bytes()].concat();
            session.create_object(&public_template(label, &[Attribute::EcPoint(wrapped)])).unwrap();
            let error = refused(store.find(label, purpose), "KEY-ATTRIBUTES", Class::Integrity);
            assert!(error.to_string().contains("CKA_EC_POINT is not the point of this private key"), "{error}");
        }
    }

    fn a_key_that_was_replaced_or_removed_meanwhile_is_noticed(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        store.generate("vault-sign", Purpose::Sign).unwrap();
        let signer = store.signer("vault-sign").unwrap();
        let session = hsm.session("vault");
        for object in session.find_objects(&[Attribute::Label("vault-sign".into())]).unwrap() {
            session.destroy_object(object).unwrap();
        }
        refused(signer.sign(b"message"), "KEY-MISSING", Class::Environment);
        plant(hsm, "vault", "vault-sign", &[], &[]);
        refused(signer.sign(b"message"), "KEY-CHANGED", Class::Integrity);
        // Opening it again is a decision of the caller, who compares the public key with what was enrolled.
        store.find("vault-sign", Purpose::Sign).unwrap().unwrap();
        store.signer("vault-sign").unwrap().sign(b"message").unwrap();
    }

    fn a_uri_that_names_one_key_gives_no_other(hsm) {
        hsm.token("vault");
        let whole = open(&hsm.uri("token=vault"), &never).unwrap();
        let signing = whole.generate("vault-sign", Purpose::Sign).unwrap();
        whole.generate("vault-agree", Purpose::Agree).unwrap();
        let uri = hsm.uri("token=vault;object=vault-sign");
        for store in [open(&uri, &never).unwrap(), create(&uri, &never).unwrap()] {
            assert_eq!(store.find("vault-sign", Purpose::Sign).unwrap(), Some(signing));
            store.signer("vault-sign").unwrap().sign(b"message").unwrap();
            let labels: Vec<_> = store.labels().unwrap().into_iter().map(|key| key.label).collect();
            assert_eq!(labels, ["vault-sign"]);
            for error in [
                refused(store.find("vault-agree", Purpose::Agree), "KEY-MISSING", Class::Environment),
                refused(store.agreement("vault-agree"), "KEY-MISSING", Class::Environment),
                refused(store.signer("device-ca"), "KEY-MISSING", Class::Environment),
                refused(store.generate("device-ca", Purpose::Sign), "KEY-MISSING", Class::Environment),
            ] {
                assert!(error.to_string().contains("object=vault-sign"), "{error}");
            }
        }
        assert_eq!(whole.labels().unwrap().len(), 2);
    }

    fn a_key_that_other_tools_made_authenticates_and_does_nothing_else(hsm) {
        hsm.token("station");
        let keypairgen = ["--keypairgen", "--key-type", "EC:prime256v1", "--usage-sign"];
        hsm.pkcs11_tool("station", &[&keypairgen[..], &["--label", "station", "--id", "01"]].concat());
        let store = open(&hsm.uri("token=station"), &never).unwrap();
        let public = store.find("station", Purpose::Authenticate).unwrap().unwrap();
        let signer = store.signer_for("station", Purpose::Authenticate).unwrap();
        assert_eq!(*signer.public_key(), public);
        assert!(verify(&public, b"message", &signer.sign(b"message").unwrap()));
        // Its other uses keep it from everything that is not the station's own.
        refused(store.signer("station"), "KEY-ATTRIBUTES", Class::Integrity);
        refused(store.find("station", Purpose::Agree), "KEY-ATTRIBUTES", Class::Integrity);
        assert_eq!(store.signer_for("station", Purpose::Agree).unwrap_err().code(), "KEYS-INTERNAL");
        // A key that could leave the token is no proof of anything.
        plant(hsm, "station", "loose", &[Attribute::Extractable(true)], &[]);
        refused(store.find("loose", Purpose::Authenticate), "KEY-ATTRIBUTES", Class::Integrity);
        // What is made here is made to sign and nothing else.
        let made = store.generate("own", Purpose::Authenticate).unwrap();
        assert_eq!(store.find("own", Purpose::Sign).unwrap(), Some(made));
        assert_eq!(listed(hsm, "station")["own"].0, "sign");
    }

    fn a_key_that_a_token_names_in_its_own_way_is_chosen_by_the_uri(hsm) {
        hsm.token("piv");
        // A PIV module names the two halves of a pair differently, and ties them by CKA_ID.
        for (id, name) in [(1, "PIV Authentication"), (2, "Digital Signature")] {
            let id = || Attribute::Id(vec![id]);
            let private = Attribute::Label(format!("Private key for {name}").into());
            let public = Attribute::Label(format!("Public key for {name}").into());
            plant(hsm, "piv", "", &[id(), private, Attribute::Derive(true)], &[id(), public]);
        }
        let find = |attributes: &str, label: &str| {
            open(&hsm.uri(&format!("token=piv;{attributes}")), &never).unwrap().find(label, Purpose::Authenticate)
        };
        let label = "Private key for PIV Authentication";
        let by_label = find("object=Private%20key%20for%20PIV%20Authentication", label).unwrap().unwrap();
        assert_eq!(find("id=%01", "station").unwrap(), Some(by_label));
        assert_eq!(find("object=Private%20key%20for%20PIV%20Authentication;id=%01", label).unwrap(), Some(by_label));
        assert_eq!(find("object=Private%20key%20for%20PIV%20Authentication;id=%02", label).unwrap(), None);
        assert_ne!(find("id=%02", "station").unwrap().unwrap(), by_label);
        assert_eq!(find("id=%03", "station").unwrap(), None);
        let store = open(&hsm.uri("token=piv;id=%01"), &never).unwrap();
        store.signer_for("station", Purpose::Authenticate).unwrap().sign(b"message").unwrap();
        let labels: Vec<_> = store.labels().unwrap().into_iter().map(|key| key.label).collect();
        assert_eq!(labels, [label]);
        // No key of a vault is one that its URI gave another name, and none is put in the place of another.
        let error = refused(store.signer("vault-sign"), "KEY-MISSING", Class::Environment);
        assert!(error.to_string().contains("id=01"), "{error}");
        refused(store.generate("station", Purpose::Authenticate), "KEY-EXISTS", Class::Environment);
        let fresh = open(&hsm.uri("token=piv;id=%09"), &never).unwrap();
        let made = fresh.generate("station", Purpose::Authenticate).unwrap();
        assert_eq!(find("id=%09", "station").unwrap(), Some(made));
        assert_eq!(find("object=station", "station").unwrap(), Some(made));
    }

    fn a_self_test_performs_each_operation_and_leaves_nothing_behind(hsm) {
        hsm.token("vault");
        let store = open(&hsm.uri("token=vault"), &never).unwrap();
        let objects = || hsm.session("vault").find_objects(&[]).unwrap().len();
        let before = objects();
        let probes = store.self_test().unwrap();
        let names: Vec<_> = probes.iter().map(|probe| probe.name.as_str()).collect();
        let all = ["login", "random", "sessions", "sign", "agree", "unwrap", "hmac", "cmac", "data", "labels"];
        assert_eq!(names, all);
        for probe in probes {
            assert!(probe.outcome.is_ok(), "{probe:?}");
        }
        assert_eq!(objects(), before);
    }

    fn the_facts_are_the_tokens_own(hsm) {
        let serial = hsm.token("vault");
        let facts = open(&hsm.uri("token=vault"), &never).unwrap().facts();
        assert_eq!((facts.kind.as_str(), facts.label.as_str(), facts.serial), ("pkcs11", "vault", serial));
        assert_eq!((facts.manufacturer.as_str(), facts.model.as_str()), ("SoftHSM project", "SoftHSM v2"));
        assert!(facts.library.contains("SoftHSM"), "{}", facts.library);
        assert!(!facts.firmware.is_empty());
        for mechanism in ["CKM_ECDSA", "CKM_ECDH1_DERIVE", "CKM_EC_KEY_PAIR_GEN"] {
            assert!(facts.mechanisms.iter().any(|listed| listed == mechanism), "{:?}", facts.mechanisms);
        }
    }

    fn create_opens_a_token_as_open_does(hsm) {
        hsm.token("vault");
        let store: std::sync::Arc<dyn KeyStore> = create(&hsm.uri("token=vault"), &never).unwrap();
        assert_eq!(store.facts().label, "vault");
        refused(create(&hsm.uri("token=other"), &never), "TOKEN-MISSING", Class::Environment);
    }
}
