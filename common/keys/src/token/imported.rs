//! A token with keys that no store would take: those whose results others have published. What is done with them is what is
//! done with every key; only their attributes, which say that they came from elsewhere, are not asked.

use std::path::Path;
use std::sync::Arc;

use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use p256::SecretKey;

use super::attributes::{self, P256_PARAMS};
use super::fault::Fault;
use super::key::{Found, Name, TokenKey};
use super::pool::Pool;
use super::{locate, module, secret, transport};
use crate::pin::KeptPin;
use crate::secret::SecretAlgorithm;
use crate::softhsm::{self, SoftHsm};
use crate::store::{Agreement, Purpose};
use crate::transport::OaepHash;
use crate::uri::KeyUri;

const LABEL: &str = "imported";

/// A token that is open.
pub(crate) struct Imported {
    pool: Arc<Pool>,
}

/// An RSA key in it, to unwrap with.
pub(crate) struct Unwrapping(ObjectHandle);

impl Imported {
    /// Makes a token of SoftHSM, and opens it as a store does.
    pub(crate) fn softhsm(hsm: &SoftHsm) -> Self {
        hsm.token(LABEL);
        Self::open(hsm, &softhsm::softhsm_module())
    }

    /// The same of kryoptic.
    pub(crate) fn kryoptic(hsm: &SoftHsm) -> Self {
        hsm.kryoptic_token(LABEL);
        Self::open(hsm, &softhsm::kryoptic_module())
    }

    fn open(hsm: &SoftHsm, module: &Path) -> Self {
        let KeyUri::Pkcs11(uri) = hsm.uri_through(module, &format!("token={LABEL}")) else {
            panic!("it names a token");
        };
        let module = module::load(uri.module_path()).unwrap();
        let found = locate::token(&module, &locate::Wanted::of(&uri)).unwrap();
        let pin = KeptPin::file(&hsm.pin_file()).unwrap();
        let pool = Pool::connect(module, found, LABEL.into(), pin).unwrap();
        Self { pool }
    }

    fn create(&self, template: &[Attribute]) -> (ObjectHandle, u64) {
        let made = self.pool.call(|session, generation| {
            let made = session.create_object(template);
            Ok((made.map_err(Fault::while_("take a key"))?, generation))
        });
        made.unwrap()
    }

    /// A key to agree with.
    pub(crate) fn agreement(&self, secret: &SecretKey) -> Arc<dyn Agreement> {
        let mut template = attributes::private_template(LABEL, &[], Purpose::Agree, true);
        template.push(Attribute::EcParams(P256_PARAMS.into()));
        template.push(Attribute::Value(secret.to_bytes().to_vec()));
        let (handle, generation) = self.create(&template);
        let found = Found {
            handle,
            public: secret.public_key(),
            proven: true,
        };
        let (pool, name) = (self.pool.clone(), Name::label(LABEL));
        Arc::new(TokenKey::new(pool, name, Purpose::Agree, &found, generation).unwrap())
    }

    /// A MAC that the token makes.
    pub(crate) fn mac(&self, algorithm: SecretAlgorithm, key: &[u8; 32], input: &[u8]) -> Vec<u8> {
        let mac = self.pool.call(|session, _| {
            let key = secret::create(session, LABEL, algorithm, key, false)?;
            let mac = secret::mac(session, key, algorithm, input)?;
            session
                .destroy_object(key)
                .map_err(Fault::while_("destroy a key"))?;
            Ok(mac)
        });
        mac.unwrap().to_vec()
    }

    /// A key to unwrap with, of its numbers as PKCS #11 calls them.
    pub(crate) fn unwrapping(&self, numbers: Vec<Attribute>) -> Unwrapping {
        let mut template = vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Unwrap(true),
            Attribute::Decrypt(false),
            Attribute::Sign(false),
        ];
        template.extend(numbers);
        Unwrapping(self.create(&template).0)
    }

    /// Unwraps what a key of any length may be, so that it can be read: `None` if the token does not unwrap it.
    pub(crate) fn unwrap(
        &self,
        with: &Unwrapping,
        oaep: OaepHash,
        wrapped: &[u8],
    ) -> Option<Vec<u8>> {
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ];
        let read = self.pool.call(|session, _| {
            let Ok(key) = transport::unwrap(session, with.0, oaep, wrapped, &template)? else {
                return Ok(None);
            };
            let read = session.get_attributes(key, &[AttributeType::Value]);
            session
                .destroy_object(key)
                .map_err(Fault::while_("destroy a key"))?;
            read.map(Some).map_err(Fault::while_("read a key"))
        });
        let value = |attribute| match attribute {
            Attribute::Value(value) => value,
            other => panic!("{other:?}"),
        };
        let mut read = read.unwrap()?.into_iter().map(value);
        Some(read.next().expect("it may be read"))
    }
}
