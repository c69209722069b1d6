//! Finding the one token that a URI means.

use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::slot::{Slot, TokenInfo};

use super::fault::{explained, returned};
use super::gate::Pass;
use super::module::Module;
use crate::error::Error;
use crate::store::StoreFacts;
use crate::uri::Pkcs11Uri;

/// What the URI asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    uri: Pkcs11Uri,
    /// Once a token was found, its own label and serial: a new connection must reach the same one.
    pinned: Option<(String, String)>,
}

/// A token in its slot.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) slot: Slot,
    pub(super) info: TokenInfo,
    pub(super) wanted: Wanted,
}

impl Wanted {
    pub(super) fn of(uri: &Pkcs11Uri) -> Self {
        Self {
            uri: uri.clone(),
            pinned: None,
        }
    }

    fn matches(&self, slot: Slot, info: &TokenInfo) -> bool {
        if let Some((label, serial)) = &self.pinned {
            // The slot's number may have changed while the token was away.
            return info.label() == label && info.serial_number() == serial;
        }
        let agrees = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        agrees(self.uri.token(), info.label())
            && agrees(self.uri.manufacturer(), info.manufacturer_id())
            && agrees(self.uri.model(), info.model())
            && agrees(self.uri.serial(), info.serial_number())
            && self.uri.slot_id().is_none_or(|wanted| wanted == slot.id())
    }

    fn describe(&self) -> String {
        if let Some((label, serial)) = &self.pinned {
            return format!("label {label:?} and serial {serial}");
        }
        let mut parts = Vec::new();
        for (name, value) in [
            ("label", self.uri.token()),
            ("manufacturer", self.uri.manufacturer()),
            ("model", self.uri.model()),
            ("serial", self.uri.serial()),
        ] {
            if let Some(value) = value {
                parts.push(format!("{name} {value:?}"));
            }
        }
        if let Some(slot_id) = self.uri.slot_id() {
            parts.push(format!("slot {slot_id}"));
        }
        if parts.is_empty() {
            "any label".into()
        } else {
            parts.join(" and ")
        }
    }
}

/// The only token that is as `wanted`. A module that was loaded long ago and does not find it is started anew.
pub(super) fn token(module: &Module, wanted: &Wanted) -> Result<Found, Error> {
    let mut pass = module.enter()?;
    let epoch = pass.epoch();
    let error = match token_in(module, &mut pass, wanted) {
        Err(error @ (Error::TokenMissing { .. } | Error::ModuleFailed { .. })) => error,
        found => return found,
    };
    let mut pass = module.restart(pass)?;
    if pass.epoch() == epoch {
        return Err(error);
    }
    token_in(module, &mut pass, wanted)
}

/// As [`token`], for whoever is in the module.
pub(super) fn token_in(
    loaded: &Module,
    pass: &mut Pass<'_>,
    wanted: &Wanted,
) -> Result<Found, Error> {
    let module = loaded.functions();
    let slots = match module.get_slots_with_token() {
        // Someone else in the process finalised the module.
        Err(CryptokiError::Pkcs11(RvError::CryptokiNotInitialized, _)) => loaded
            .initialise_again(pass)
            .and_then(|()| module.get_slots_with_token()),
        other => other,
    }
    .map_err(|error| Error::ModuleFailed {
        path: wanted.uri.module_path().into(),
        action: "list its tokens",
        reason: explained(&error),
        returned: returned(&error),
    })?;
    let mut present = Vec::new();
    let mut matching = Vec::new();
    for slot in slots {
        // A token that was pulled out since, or that no one can read, is no candidate; the others still are.
        let Ok(info) = module.get_token_info(slot) else {
            continue;
        };
        if !info.token_initialized() {
            continue;
        }
        present.push(describe(&info, slot));
        if wanted.matches(slot, &info) {
            matching.push((slot, info));
        }
    }
    let count = matching.len();
    match (matching.pop(), count) {
        (Some((slot, info)), 1) => {
            let pinned = Some((info.label().to_owned(), info.serial_number().to_owned()));
            Ok(Found {
                slot,
                info,
                wanted: Wanted {
                    uri: wanted.uri.clone(),
                    pinned,
                },
            })
        }
        (Some(last), _) => {
            matching.push(last);
            let matching = matching
                .iter()
                .map(|(slot, info)| describe(info, *slot))
                .collect();
            Err(Error::TokenAmbiguous {
                wanted: wanted.describe(),
                matching,
            })
        }
        (None, _) => Err(Error::TokenMissing {
            wanted: wanted.describe(),
            present,
        }),
    }
}

/// A token as people tell it from others.
pub(super) fn describe(info: &TokenInfo, slot: Slot) -> String {
    format!(
        "{:?} (serial {}, slot {slot})",
        info.label(),
        info.serial_number().escape_debug()
    )
}

/// What the token and its module say of themselves. What they do not say stays empty.
pub(super) fn facts(module: &Module, found: &Found) -> Result<StoreFacts, Error> {
    let pass = module.enter()?;
    let module = module.functions();
    let library = module.get_library_info().map_or_else(
        |_| String::new(),
        |info| {
            format!(
                "{} {} {}",
                info.manufacturer_id(),
                info.library_description(),
                info.library_version()
            )
        },
    );
    let mut mechanisms: Vec<String> = module
        .get_mechanism_list(found.slot)
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect();
    mechanisms.sort_unstable();
    mechanisms.dedup();
    drop(pass);
    Ok(StoreFacts {
        kind: "pkcs11".into(),
        label: found.info.label().into(),
        manufacturer: found.info.manufacturer_id().into(),
        model: found.info.model().into(),
        serial: found.info.serial_number().into(),
        firmware: found.info.firmware_version().to_string(),
        library,
        mechanisms,
    })
}
