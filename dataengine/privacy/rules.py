"""The built-in rules: names of people, places, serial numbers, machines, and ways to reach somebody."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dataengine.core.errors import UnknownName
from dataengine.privacy.config import RulesConfig, ScrubRule

_PERSON = (
    "user|operator|collector|annotator|labell?er|author|artist|owner|creator|uploader|contributor|person|participant|subject|experimenter|demonstrator|teleoperator"
    "|wearer|supervisor|contact|worker|recorder|driver|pilot|speaker|actor"
)

RULES: dict[str, ScrubRule] = {
    rule.name: rule
    for rule in (
        ScrubRule(
            name="people",
            keys=(
                rf"(?!(.*_)?(n|num|nr|count|max|min|number_of)_)(.*_)?({_PERSON})s?(_?(name|id|email|mail|login|handle|code|uid))?s?",
                r"(.*_)?(first|last|full|given|family|sur|nick|login|display)_?name",
                r"(.*_)?(recorded|collected|performed|annotated|labell?ed|created|uploaded|teleoperated|operated)_by",
                r"copyright(_.*)?",
            ),
            action="pseudonym",
            label="person",
        ),
        ScrubRule(
            name="contacts",
            keys=(r"(.*_)?(e?mail|email_address|phone|phone_number|telephone|mobile|fax)s?",),
            texts=(
                r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,5}",
                r"(?<![\w.+])\+[1-9]\d{0,2}[ ./-]?(?:\(0?\d{1,5}\)[ ./-]?)?\d{1,5}(?:[ ./-]?\d{2,5}){1,4}(?!\w)",
                r"(?<![\w.-])\(?[2-9]\d{2}\)?[ .-][2-9]\d{2}[ .-]\d{4}(?![\w-])",
                r"(?<![\w./-])0[1-9]\d{1,4}[ /-]\d{5,8}(?![\w-])",
            ),
            label="contact",
        ),
        ScrubRule(
            name="serials",
            keys=(
                r"(.*_)?(serial|serials|sn|s_n)(_?(number|num|no|nr|id))?s?(_.*)?",
                r"(.*_)?(device|hardware|asset)_(id|uid|uuid|sn|tag)",
                r"(.*_)?(imei|imsi|meid|udid|licen[cs]e_plate|number_plate|dinf|casn|linf|cinf|muid)",
            ),
            action="pseudonym",
            label="device",
        ),
        ScrubRule(
            name="machines",
            keys=(r"(.*_)?(hostname|host|host_name|computer_name|node_?name|machine|machine_name|workstation|ip|ip_address|mac|mac_address|bssid|ssid)",),
            texts=(
                r"(?<![0-9A-Fa-f:-])[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5}|(?:-[0-9A-Fa-f]{2}){5})(?![0-9A-Fa-f:-])",
                r"(?:/home/|/Users/|[A-Za-z]:[\\/]Users[\\/])([^/\\\s\"'<>|:,;]+)",
            ),
            action="pseudonym",
            label="machine",
        ),
        ScrubRule(
            name="location",
            keys=(
                r"(.*_)?(lat|latitude|lon|lng|longitude|altitude|latlon|latlng|latlong)(_(deg|degrees|rad|m|ref|e7|e6))?",
                r"(.*_)?(gps[a-z0-9]*|gnss|geo|navsat|nmea)(_.*)?",
                r"(.*_)?(location|locations|geolocation|coordinates|coords|address|street|city|town|postcode|postal_code|zip|zip_code|building|room_number)(_.*)?",
                r"c_xyz",
                r"com_apple_quicktime_location.*",
            ),
            streams=(
                r"gps\w*",
                r"gnss\w*",
                r"navsat\w*",
                r"nmea\w*",
                r"lat",
                r"latitude\w*",
                r"lon",
                r"lng",
                r"longitude\w*",
                r"altitude\w*",
                r"geo(point|pose|path)\w*",
            ),
            schemas=(r"(.*[/.])?(NavSat\w*|GPS\w*|GNSS\w*|Geo(Point|Pose|Path)\w*|GeographicMap\w*|LocationFix\w*)", r"nmea_msgs/.*"),
            texts=(
                # ISO 6709, as telephones and cameras write it: +47.3769+008.5432+400/
                r"(?<![\w.])[+-]\d{2,6}(?:\.\d{1,9})?[+-]\d{3,7}(?:\.\d{1,9})?(?:[+-]\d{1,6}(?:\.\d{1,9})?)?(?:CRS\w{1,16})?/",
                # Subtitles of drones: [latitude: 42.373451] [longtitude: -71.112345]
                r"(?i)(?<![a-z])(?:lat|lon|lng|latitude|longt?itude)(?:_?(?:deg|degrees))?\W{1,3}?([+-]?\d{1,3}\.\d{1,15})",
                r"\$G[A-Z]{4},[0-9A-Za-z.,*-]{8,120}",
                r"(?<![\w.+-])[+-]?\d{1,2}\.\d{4,}°?[ ]?[NS]?(?:,[ ]?|[ ]|;[ ]?|/)?[+-]?\d{1,3}\.\d{4,}°?(?:[ ]?[EW])?/?(?![\w.])",
            ),
            action="remove",
            label="place",
        ),
    )
}


def active_rules(config: RulesConfig) -> tuple[ScrubRule, ...]:
    """Return the rules that apply, in order; raise UnknownName where `without` names none that is built in."""
    for name in config.without:
        if name not in RULES:
            raise UnknownName("rule", name, RULES)
    words = (ScrubRule(name="words", words=config.words),) if config.words else ()
    return (*words, *config.add, *(rule for name, rule in RULES.items() if name not in config.without))


def matches(patterns: Sequence[re.Pattern[str]], text: str) -> bool:
    """Whether a whole text matches one of the patterns."""
    return any(pattern.fullmatch(text) for pattern in patterns)


def snake(name: str) -> str:
    """Return a key as lower_snake_case: "robotSerialNumber", "Robot Serial-Number" and "robot.serial_number" give one text; "©xyz" gives "c_xyz"."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name.replace("©", "c_"))
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")
