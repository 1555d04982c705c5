"""What of a privacy configuration changes what lands."""

from __future__ import annotations

from typing import Any

from dataengine.core.digest import digest_json
from dataengine.privacy.config import PrivacyConfig, RulesConfig
from dataengine.privacy.detector import identify
from dataengine.privacy.rules import active_rules

# Raised whenever what is done to recordings changes: they are then read anew.
TREATMENT = "2"


def rules_digest(rules: RulesConfig) -> str:
    """Return the digest of the rules as they apply, the built-in ones included."""
    salt: Any = None if rules.salt is None else digest_json(["salt", rules.salt])
    return digest_json([[rule.model_dump(mode="json") for rule in active_rules(rules)], list(rules.keep_keys), list(rules.keep_streams), salt])


def affecting(config: PrivacyConfig) -> dict[str, Any]:
    """Return what of the configuration changes what lands: part of the digest of a reading, empty where nothing is protected.

    Raises:
        UsageError: what the detector needs is not installed.
    """
    found: dict[str, Any] = {"treatment": TREATMENT} if config.on else {}
    if config.blur_faces:
        found["faces"] = {"detector": identify(config.faces).as_dict(), "parameters": config.faces.model_dump(mode="json")}
    if config.scrub:
        found["rules"] = rules_digest(config.rules)
    return found
