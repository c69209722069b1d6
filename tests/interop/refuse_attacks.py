#!/usr/bin/env python3
"""Shows the files of fixtures/attacks to the reader: whatever breaks a rule of docs/formats.md about a single message must be
refused by a reader that was written from it. What is authentic and merely out of its place is for whoever keeps a chain.

Prints which attacks were refused, each with why.
"""

import argparse
import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature, InvalidTag

import formats
from formats import Message, need
from libraries import LIBRARIES, Refused
from read_mintmark import manifest_of, records_of
from read_vectors import Reader
from strict_cbor import Malformed, decode

# What a message can be refused for by itself; the other rules are those of a chain, of a ledger, or of a clock.
OF_ONE_MESSAGE = ("MESSAGE-", "SIGN", "DRAFT-", "THRESHOLD-", "NOT-RECIPIENT", "DECRYPTION-", "COMMITMENT-", "FINGERPRINT-", "CERTIFICATE-")


class Vault(Reader):
    """The receivers of the attacks."""

    def dispatch(self, data):
        manifest = self.trust[2]
        message = Message(data, "dispatch")
        formats.verify_one(self.library, message, manifest[10])
        content = formats.DISPATCH(decode(message.payload, "dispatch"), "dispatch")
        message.expect("hq", "vault:berlin/v1", f"dispatch-{content[4]}-{content[5]:06}")
        need((content[2], content[3]) == ("berlin", "v1"), "dispatch", "for another vault")
        inner = Message(content[11], content[8])
        need(inner.context[4] == "vault:berlin/v1", "content", "for another vault")
        if inner.kind in formats.ROLE_OF:
            formats.approvers(self.library, inner, manifest, formats.ROLE_OF[inner.kind])
        else:
            formats.verify_one(self.library, inner, manifest[10])
        plaintext, _ = formats.decrypt(self.library, inner, self.key("vault-agree"))
        if inner.kind == "entitlement":
            formats.ENTITLEMENT(decode(plaintext, "entitlement"), "entitlement")

    def manifest_after(self, data):
        message, manifest = manifest_of(data)
        for listing in (self.trust[2], manifest):
            formats.approvers(self.library, message, listing, "trust", others_allowed=True)

    def vault(self, case, data):
        if case["place"].startswith("trust-"):
            self.manifest_after(data)
        else:
            self.dispatch(data)

    def opened(self, case, data):
        what = case["opens"]
        if what == "audit-bundle":
            message = Message(data, what)
            need(message.context[3] == "vault:berlin/v1", "bundle", "of another vault")
            formats.verify_one(self.library, message, self.signer("audit-bundle-1", message))
            formats.AUDIT_BUNDLE(decode(message.payload, what), what)
        elif what == "audit-segment":
            bundle = self.messages["audit-bundle-1"]
            if "described" in case:
                bundle = bytes.fromhex(case["described"]["bundle"])
            content = formats.AUDIT_BUNDLE(decode(Message(bundle).payload, "bundle"), "bundle")
            context = ("vault:berlin/v1", "hq", f"{content[4].hex()}-000001-seg0001")
            records_of(self.library, data, content[10][0], context, self.key("audit"))
        elif what in ("enrolment-request", "officer-request"):
            message = Message(data, what)
            need(message.fingerprint.hex() == self.said[what]["fingerprint"], what, "another fingerprint")
        elif what == "restore-declaration":
            message = Message(data, what)
            message.expect("vault:berlin/v1", "hq", "restore")
            formats.verify_one(self.library, message, self.signer("audit-bundle-1", message))
            content = formats.restore_declaration(decode(message.payload, what), what)
            need((content[2], content[3]) == ("berlin", "v1"), what, "of another vault")
        elif what == "log-tail":
            message = Message(data, what)
            formats.verify_one(self.library, message, self.trust[2][10])
            plaintext, _ = formats.decrypt(self.library, message, self.key("vault-agree"))
            content = formats.log_tail(decode(plaintext, what), what)
            message.expect("hq", "vault:berlin/v1", f"tail-{content[5]:06}")
            need((content[2], content[3]) == ("berlin", "v1"), what, "for another vault")
        elif what == "approvals":
            formats.approvers(self.library, Message(data), self.trust[2], "mint")
        elif what == "device-secret":
            message = Message(data, what)
            formats.verify_one(self.library, message, self.identity(message.header[33]))
            formats.decrypt(self.library, message, self.key("device-1"))
        elif what == "collected":
            draft, approval = Message(self.messages["second-entitlement"]), Message(data)
            same = (draft.protected, draft.payload) == (approval.protected, approval.payload)
            need(same, "approval", "of another draft")
        else:
            message = Message(data)
            formats.drafted_by(self.library, message, self.trust[2][10])
            formats.decrypt(self.library, message, self.key("bob-agree"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", choices=sorted(LIBRARIES), required=True)
    parser.add_argument("fixtures", type=pathlib.Path)
    arguments = parser.parse_args()
    receiver = Vault(LIBRARIES[arguments.library](), arguments.fixtures / "vectors")
    receiver.dispatch(receiver.messages["dispatch-5"])
    refused = {}
    for folder in sorted((arguments.fixtures / "attacks").iterdir()):
        if not folder.is_dir():
            continue
        for case in json.loads((folder / "attack.json").read_text())["cases"]:
            if "live" in case or not case["rule"].startswith(OF_ONE_MESSAGE):
                continue
            name = f"{folder.name}/{case['file']}"
            data = (folder / case["file"]).read_bytes()
            data += bytes(case.get("padded_to", len(data)) - len(data))
            try:
                receiver.vault(case, data) if case["receiver"] == "vault" else receiver.opened(case, data)
            except (Malformed, Refused, InvalidSignature, InvalidTag) as error:
                refused[name] = f"{case['rule']}: {error}"
                continue
            print(f"refuse_attacks: {name} was believed", file=sys.stderr)
            return 1
    json.dump({"refused": refused}, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
