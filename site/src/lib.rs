//! The vault: imports entitlements, enforces them, issues device certificates, returns audit bundles.
