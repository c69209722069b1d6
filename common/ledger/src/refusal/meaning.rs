//! What the codes of refusals mean, for readers of a log that holds nothing but the code.

// What to do about content of a dispatch that did not verify. HQ reads in the log what was refused.
const APPROVED_AGAIN: &str =
    "carry the next `site media export` to headquarters, which has it approved again";
const MADE_AGAIN: &str = "carry the next `site media export` to headquarters, which learns of it there and makes it again";
const EVIDENCE: &str = "keep the file and tell headquarters: somebody put it together from parts";

/// Every code that a decision of the ledger can carry, by its own rules or by what the vault verified, what it means, and
/// what to do.
const CODES: &[(&str, &str, &str)] = &[
    (
        "NOT-ENROLLED",
        "the vault was not enrolled",
        "carry the export to headquarters, and import what comes back",
    ),
    (
        "PRODUCT-NOT-ENTITLED",
        "no entitlement named the product",
        "check the product's name with `site entitlement list`, or ask HQ for an entitlement",
    ),
    (
        "DEVICE-ID-MISSING",
        "the request did not say which device it was for",
        "make the request with the device id in its subject",
    ),
    (
        "DEVICE-ID-INVALID",
        "the device id is not one that a certificate can hold",
        "use letters, digits and ' ( ) + , - . / : = ? and space, at most 64",
    ),
    (
        "DEVICE-KEY-CHANGED",
        "the device already had a certificate for another key",
        "give the device its own key back, or choose another device id; `site device show` tells what it has",
    ),
    (
        "KEY-REUSED",
        "the public key already belonged to another device",
        "let the device make a key of its own; two devices must never share one",
    ),
    (
        "VAULT-DISABLED",
        "headquarters had disabled the vault",
        "run `site rotate` and carry its request to headquarters; the grant that comes back ends this",
    ),
    (
        "DEVICE-CA-REVOKED",
        "the vault's device CA was revoked",
        "run `site rotate` and carry its request to headquarters",
    ),
    (
        "ENTITLEMENT-REVOKED",
        "the entitlement was revoked",
        "nothing more is made from it; ask HQ for another entitlement",
    ),
    (
        "CLOCK-BACK",
        "the vault's clock stood behind its log",
        "set the clock right, then try again; if it is right as it is, run `site clock confirm`, or ask HQ for a clock correction where that is refused",
    ),
    (
        "CLOCK-JUMPED",
        "the vault's clock had jumped, or stood still",
        "set the clock right, and it goes on by itself; if it is right as it is, run `site clock confirm`, or ask HQ for a clock correction where that is refused",
    ),
    (
        "CLOCK-BELIEVED",
        "the clock was believed as it was",
        "nothing has to be confirmed",
    ),
    (
        "CLOCK-BEYOND-BOUND",
        "the clock was too far from the log for a person to confirm it",
        "set the clock right; if it is right as it is, ask HQ for a clock correction",
    ),
    (
        "DEVICE-UNKNOWN",
        "the device was not known at this vault",
        "check the id and the product; `site device show` tells what it has",
    ),
    (
        "DEVICE-SCRAPPED",
        "the device was scrapped",
        "a scrapped device gets nothing more; give another device another id",
    ),
    (
        "CERTIFICATE-PRUNED",
        "the device had its certificate, of which the vault kept no copy any more",
        "nothing was spent; headquarters has the certificate (`hq device dossier`); for another one, run `site device rework`",
    ),
    (
        "DEVICE-VOIDED",
        "the device's unit was voided",
        "a voided unit gets nothing more; give the device another id",
    ),
    (
        "CERTIFICATE-REVOKED",
        "officers revoked the certificate that the device has",
        "keep the device aside; if it is to have another certificate, run `site device rework`",
    ),
    (
        "DEVICE-UNIT-ENDED",
        "the unit was scrapped or voided before it had its certificate",
        "nothing has to be done: it stays spent",
    ),
    (
        "DEVICE-UNRESOLVED",
        "the device had no certificate yet",
        "run `site recover`, or `site device void` if the unit came to nothing",
    ),
    (
        "REWORK-OPEN",
        "the device was allowed another certificate already",
        "submit its new request with `site issue`",
    ),
    (
        "REWORK-EXHAUSTED",
        "the device had as many certificates as its policy allows",
        "scrap the device, or ask HQ for an amendment with more `reissues_per_device`",
    ),
    (
        "WINDOW-NOT-OPEN",
        "the entitlement was not valid yet",
        "wait until it opens",
    ),
    (
        "WINDOW-CLOSED",
        "the entitlement was no longer valid",
        "ask HQ for a new entitlement or an amendment",
    ),
    (
        "STATION-NOT-ALLOWED",
        "the entitlement did not allow the station",
        "use a station that it names, or ask HQ for an amendment",
    ),
    (
        "STATION-UNKNOWN",
        "no such station was approved at the vault",
        "have the station approved there: `site station approve`",
    ),
    (
        "STATION-REVOKED",
        "the station was revoked",
        "use another station, or have this one approved again with a new key",
    ),
    (
        "STATION-EXPIRED",
        "what the station may do was over",
        "have it approved again: `site station approve`",
    ),
    (
        "STATION-PRODUCT-NOT-ALLOWED",
        "the station was not approved for the product",
        "use another station, or have this one approved for it too",
    ),
    (
        "STATION-OUT-OF-HOURS",
        "it was outside of the station's working hours",
        "use another station, or have this one approved for other hours",
    ),
    (
        "STATION-RATE-DAY",
        "the station had its units of the UTC day",
        "wait for the next day, or have it approved for more",
    ),
    (
        "STATION-NAME-RESERVED",
        "the name is that of the vault's own console",
        "give the station another name",
    ),
    (
        "STATION-END-PAST",
        "the station was to be let in until a time that is over",
        "let it in for longer: --valid-days",
    ),
    (
        "STATION-KEY-TAKEN",
        "another station has the same key",
        "have the station make a key of its own, or revoke the other one",
    ),
    (
        "STATIONS-TOO-MANY",
        "there were as many stations as there can be",
        "revoke those that are not used any more",
    ),
    (
        "KEY-ALGORITHM-FORBIDDEN",
        "the entitlement did not allow the kind of key",
        "let the device make a key of an allowed kind",
    ),
    (
        "DEVICE-KEY-NO-AGREEMENT",
        "a secret goes with the device, and cannot be encrypted to its kind of key",
        "let the device make a P-256 or P-384 key",
    ),
    (
        "DEVICE-ID-FORBIDDEN",
        "the device id did not match the entitlement's pattern",
        "check the device id, or ask HQ for an amendment",
    ),
    (
        "DEVICE-ID-NOT-LISTED",
        "the device id was not one of those that the entitlement lists",
        "check the device id; `site entitlement show` lists those that are allowed; ask HQ for an amendment",
    ),
    (
        "OUT-OF-HOURS",
        "it was outside of the entitlement's working hours",
        "ask HQ for an amendment",
    ),
    (
        "KEY-EXPIRED",
        "a key from which the device gets a secret was no longer to be used",
        "ask HQ for an amendment with a later end of the key",
    ),
    (
        "KEY-NOT-RECEIVED",
        "a key from which the device gets a secret was not in the token",
        "run `site status`: it says why the token has not taken the key",
    ),
    (
        "KEY-DEVICE-TAKEN",
        "a device of another product has this id and a secret from the same key",
        "have HQ give the products keys of their own labels, or give their devices ids that differ",
    ),
    (
        "KEY-USES-EXHAUSTED",
        "a key from which the device gets a secret had no use left",
        "ask HQ for an amendment with more uses of the key",
    ),
    (
        "QUOTA-EXHAUSTED",
        "every unit of the entitlement was spent",
        "ask HQ for an amendment or run `site status`",
    ),
    (
        "RATE-DAY",
        "the day's units were spent",
        "wait for the next UTC day, or ask HQ for an amendment",
    ),
    (
        "RATE-HOUR",
        "the hour's units were spent",
        "wait for the next UTC hour, or ask HQ for an amendment",
    ),
    (
        "CREDIT-UNITS-EXHAUSTED",
        "too many units had been issued that headquarters had not acknowledged",
        "carry an export to headquarters and import its acknowledgement",
    ),
    (
        "CREDIT-DAYS-EXHAUSTED",
        "headquarters had not acknowledged the log for too long",
        "carry an export to headquarters and import its acknowledgement",
    ),
    (
        "CERTIFICATE-UNBUILDABLE",
        "the entitlement's terms gave no certificate for the device",
        "check the device id; if it is right, HQ must amend the certificate terms",
    ),
    (
        "DISPATCH-OUT-OF-ORDER",
        "the dispatch was not the next of its chain",
        "import the dispatches in between",
    ),
    (
        "CONTENT-MALFORMED",
        "the content of the dispatch was malformed",
        "keep the file and tell headquarters",
    ),
    (
        "CONTENT-OVERSIZE",
        "the content of the dispatch was larger than a log entry can be",
        "HQ must draft it again with fewer products or shorter working hours",
    ),
    (
        "GRANT-REPEATED",
        "the vault was enrolled already",
        "nothing needs to be done",
    ),
    (
        "GRANT-MISMATCH",
        "the enrolment grant was for another vault, request or key",
        "tell headquarters; the grant must be drafted again",
    ),
    (
        "GRANT-BEFORE-DISABLE",
        "the vault was disabled after the rotation was drafted",
        "have the rotation drafted and approved again",
    ),
    (
        "GRANT-EXPIRED",
        "the enrolment grant was imported too late",
        "have the grant drafted and approved again",
    ),
    (
        "ENTITLEMENT-MISMATCH",
        "the entitlement was for another vault",
        "keep the file and tell headquarters",
    ),
    (
        "ENTITLEMENT-EXPIRED",
        "the entitlement was imported too late",
        "have it drafted and approved again",
    ),
    (
        "ENTITLEMENT-WINDOW-OVER",
        "the entitlement's window was over when it was imported",
        "have it drafted again with a later window",
    ),
    (
        "ENTITLEMENT-AMENDS-ANOTHER",
        "the amendment replaced another version than the one in force",
        "tell headquarters; the amendment must be drafted and approved again",
    ),
    (
        "ENTITLEMENT-VERSION",
        "the entitlement did not follow the version in force",
        "tell headquarters; an amendment is the version in force plus 1",
    ),
    (
        "ENTITLEMENT-BELOW-SPENT",
        "the amendment granted less than what was spent",
        "have an amendment drafted with at least the units spent and the uses made",
    ),
    (
        "ENTITLEMENT-KEY-CHANGED",
        "the entitlement brought another key under the label of one in force",
        "tell headquarters; another key needs another label",
    ),
    (
        "ENTITLEMENT-TAG-REUSED",
        "the entitlement used an account tag of another account",
        "tell headquarters; the entitlement must be drafted again",
    ),
    (
        "ENTITLEMENT-TAG-CHANGED",
        "the amendment gave an account another tag",
        "tell headquarters; the amendment must be drafted again",
    ),
    (
        "ENTITLEMENT-TERMS",
        "the entitlement had terms that cannot be enforced",
        "tell headquarters; `hq policy check` names what is wrong",
    ),
    (
        "REVOCATION-MISMATCH",
        "the revocation was for another vault",
        "keep the file and tell headquarters",
    ),
    (
        "REVOCATION-NUMBER-TAKEN",
        "another revocation had the number of this one",
        "tell headquarters; the revocation must be drafted again under a number of its own",
    ),
    (
        "REVOCATION-UNKNOWN-TARGET",
        "the revocation was of something that the vault never had",
        "tell headquarters; the revocation must be drafted again",
    ),
    (
        "CLOCK-CORRECTION-MISMATCH",
        "the clock correction was for another vault",
        "keep the file and tell headquarters",
    ),
    (
        "CLOCK-CORRECTION-NUMBER-TAKEN",
        "another clock correction had the number of this one",
        "tell headquarters; the clock correction must be drafted again under a number of its own",
    ),
    (
        "CLOCK-CORRECTION-AHEAD",
        "the vault's clock stood before the corrected time",
        "set the clock right, and ask HQ for another clock correction",
    ),
    (
        "CLOCK-CORRECTION-EXPIRED",
        "the clock correction was imported too late",
        "check the clock; if it is right, have the correction drafted and approved again",
    ),
    (
        "REANCHOR-MISMATCH",
        "the re-anchor was for another vault or history",
        "check which stick this is, and tell headquarters",
    ),
    (
        "REANCHOR-NUMBER-TAKEN",
        "another re-anchor had the number of this one",
        "tell headquarters; the re-anchor must be drafted again under a number of its own",
    ),
    (
        "REANCHOR-EXPIRED",
        "the re-anchor was imported too late",
        "have it drafted and approved again",
    ),
    (
        "REANCHOR-UNKNOWN-BUNDLE",
        "the re-anchor named a head that the log does not lead through",
        "stop the line and tell headquarters: this home is an older copy, or another one",
    ),
    (
        "ACK-MISMATCH",
        "the acknowledgement was for another vault or history",
        "check which stick this is",
    ),
    (
        "ACK-UNKNOWN-BUNDLE",
        "the acknowledgement named a bundle that the vault had not sealed",
        "tell headquarters; there may be two copies of this vault",
    ),
    (
        "CSR-EMPTY",
        "the certification request was empty",
        "make the request again",
    ),
    (
        "CSR-TOO-LARGE",
        "the certification request was too large",
        "check that the right file was given",
    ),
    (
        "CSR-NOT-A-REQUEST",
        "what was submitted was something other than a certification request",
        "submit a PKCS#10 request",
    ),
    (
        "CSR-SEVERAL-BLOCKS",
        "the file held several PEM blocks",
        "submit one request per file",
    ),
    (
        "CSR-MALFORMED",
        "the certification request was malformed",
        "make the request again, for instance with `openssl req -new`",
    ),
    (
        "CSR-TOO-DEEP",
        "the certification request was nested too deeply",
        "make the request again, for instance with `openssl req -new`",
    ),
    (
        "CSR-KEY-UNSUPPORTED",
        "the key in the certification request is of a kind that is not supported",
        "make the device key P-256, P-384, Ed25519 or RSA",
    ),
    (
        "CSR-SIGNATURE-ALGORITHM",
        "the certification request was signed with an algorithm that is not accepted",
        "sign the request with SHA-2",
    ),
    (
        "CSR-PROOF-INVALID",
        "the certification request did not prove possession of its key",
        "make the request again with the device's own key",
    ),
    (
        "SIGNER-UNKNOWN",
        "approved by somebody who may not approve it, or may no longer",
        APPROVED_AGAIN,
    ),
    (
        "SIGNER-ROLE",
        "approved by somebody who has not the role for it, or no longer",
        APPROVED_AGAIN,
    ),
    (
        "SIGNER-DUPLICATE",
        "approved twice by one officer",
        APPROVED_AGAIN,
    ),
    (
        "THRESHOLD-NOT-MET",
        "approved by fewer officers than it takes",
        APPROVED_AGAIN,
    ),
    (
        "SIGNATURE-INVALID",
        "a signature on it does not verify",
        MADE_AGAIN,
    ),
    (
        "MESSAGE-EXPIRED",
        "it may no longer be used",
        APPROVED_AGAIN,
    ),
    (
        "NOT-RECIPIENT",
        "it is not encrypted to this vault's key",
        MADE_AGAIN,
    ),
    (
        "DECRYPTION-FAILED",
        "it does not decrypt with this vault's key",
        MADE_AGAIN,
    ),
    (
        "COMMITMENT-MISMATCH",
        "it is not what its signers committed to",
        EVIDENCE,
    ),
    (
        "FINGERPRINT-MISMATCH",
        "it is not the object that it should be",
        EVIDENCE,
    ),
    (
        "MESSAGE-PARTS",
        "its parts do not belong together",
        EVIDENCE,
    ),
    (
        "MESSAGE-ADDRESS",
        "it is for another vault, or from somebody else",
        MADE_AGAIN,
    ),
    (
        "MESSAGE-ENCODING",
        "it is not encoded as messages are",
        MADE_AGAIN,
    ),
    (
        "MESSAGE-SHAPE",
        "it is not of the form that it should have",
        MADE_AGAIN,
    ),
    (
        "MESSAGE-OVERSIZE",
        "it is larger than any genuine one",
        MADE_AGAIN,
    ),
    (
        "MESSAGE-HEADER",
        "it has a header that is not allowed",
        MADE_AGAIN,
    ),
    (
        "MESSAGE-ALGORITHM",
        "it uses an algorithm that is not allowed",
        MADE_AGAIN,
    ),
    (
        "MESSAGE-TYPE",
        "it is of another type than its dispatch says",
        MADE_AGAIN,
    ),
    ("MESSAGE-KEY", "a key in it is malformed", MADE_AGAIN),
    (
        "IDENTIFIER-INVALID",
        "a name in it is malformed",
        MADE_AGAIN,
    ),
    (
        "FINGERPRINT-INVALID",
        "a fingerprint in it is malformed",
        MADE_AGAIN,
    ),
    (
        "TRUST-SUCCESSION",
        "it names another trust manifest than it may",
        MADE_AGAIN,
    ),
    (
        "GRANT-CERTIFICATE",
        "its certificates are not those that officers approved, made by the root for this vault's keys",
        "tell headquarters; the grant must be made again",
    ),
];

/// What a code in the log means, as a phrase; of a code that is not the ledger's own, the code itself.
pub fn meaning(code: &str) -> &str {
    CODES
        .iter()
        .find(|(known, ..)| *known == code)
        .map_or(code, |(_, meaning, _)| meaning)
}

/// What to do about a refusal of this code.
pub(super) fn advice(code: &str) -> &'static str {
    let known = CODES.iter().find(|(known, ..)| *known == code);
    known.map_or("correct what it names, then try again", |(_, _, advice)| {
        advice
    })
}
