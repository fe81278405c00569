"""What people wrote about a picture, as XMP: rating, title, caption, keywords, authors, rights, places.

It is gathered from the raw's packet and from sidecar files, and only what describes the scene is kept. Most
of what other programs write is about the raw: their settings, which programs would apply to the finished
picture once more, its history, its size. XMP: ISO 16684-1; which file has it: `exif_reader.xmp_packet`.
"""

import contextlib
import errno
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

# Time and place go into the output's EXIF alone, which every program reads. Of two times, the first counts.
DATE = "photoshop:DateCreated"
TIMES = ("exif:DateTimeOriginal", DATE)
LENS = ("exifEX:LensModel", "aux:Lens")
PLACE = (
    *("exif:GPSLatitude", "exif:GPSLongitude", "exif:GPSAltitude", "exif:GPSAltitudeRef"),
    *("exif:GPSLatitudeRef", "exif:GPSLongitudeRef"),  # which XMP itself does not have: Apple's
)
# The namespaces that are kept, and of which everything is kept.
WHOLE = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "cc": "http://creativecommons.org/ns#",
    "mwg-kw": "http://www.metadataworkinggroup.com/schemas/keywords/",
}
# ... and of which some is kept.
PARTLY = {
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "xmpDM": "http://ns.adobe.com/xmp/1.0/DynamicMedia/",
    "acdsee": "http://ns.acdsee.com/iptc/1.0/",
    "darktable": "http://darktable.sf.net/",
}
KEPT = {
    "xmp": ("Rating", "Label"),
    "photoshop": (
        *("Headline", "City", "State", "Country", "Credit", "Source", "Instructions", "AuthorsPosition"),
        *("CaptionWriter", "TransmissionReference", "Category", "SupplementalCategories", "Urgency"),
        "DateCreated",
    ),
    "lr": ("hierarchicalSubject", "weightedFlatSubject"),
    "digiKam": ("TagsList", "ColorLabel", "PickLabel", "CaptionsAuthorNames", "CaptionsDateTimeStamps"),
    "MicrosoftPhoto": ("LastKeywordXMP",),
    "exif": ("DateTimeOriginal", *(name.removeprefix("exif:") for name in PLACE)),
    "aux": ("Lens",),
    "exifEX": ("LensModel",),
    "xmpDM": ("pick", "good"),
    "acdsee": ("notes",),
    "darktable": ("colorlabels",),
}
# Of the whole namespaces: the raw's own format, and areas in pixels, which turning and cropping would move.
LEFT_OUT = {"dc": ("format",), "Iptc4xmpExt": ("ImageRegion",)}

XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"  # XMP specification part 3, section 1.1.3
LARGEST_PACKET = 1 << 24  # bytes that are read: Adobe's masks can have megabytes

# Properties that EXIF has, too. There must not be two captions, or two ratings.
IN_EXIF = (
    *("dc:title", "dc:description", "dc:subject", "dc:creator", "dc:rights", "xmp:Rating"),
    *(*TIMES, *PLACE, *LENS),
)

_NAMESPACES = {**WHOLE, **PARTLY}
_PREFIXES = {uri: prefix for prefix, uri in _NAMESPACES.items()}
_MISSPELLED = {uri.rstrip("/"): uri for uri in _NAMESPACES.values() if uri.endswith("/")}  # by exiftool, too
_DATE_ALONE = re.compile(r"\d{4}(-\d\d){0,2}", re.ASCII)
_WRAPPER_END = re.compile(r"</(\w+:)?x[am]pmeta\s*>")  # xapmeta: older programs of Adobe
_RDF_END = re.compile(r"</(\w+:)?RDF\s*>")
_OWN_TAGS = "darktable|"  # of darktable itself, as of what it has exported
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_META = "{adobe:ns:meta/}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_SIDECAR_OF = f"{{{PARTLY['photoshop']}}}SidecarForExtension"
_HEAD = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_TAIL = b'<?xpacket end="w"?>'

# The names that people and simple readers expect; ElementTree's own would be ns0, ns1, ...
for _prefix, _uri in {**_NAMESPACES, "x": _META[1:-1], "rdf": _RDF[1:-1]}.items():
    ElementTree.register_namespace(_prefix, _uri)

Properties = Mapping[str, ElementTree.Element]
"""By their names, "{namespace}name"."""


def read_sidecars(source: Path) -> tuple[list[tuple[str, bytes]], list[str]]:
    """The XMP files beside a raw, by name, and notes about those that cannot be read.

    The more specific ones come first: night.dng.xmp (darktable, digiKam), then night.xmp (Lightroom).
    """
    found: list[tuple[str, bytes]] = []
    notes = []
    for stem in (source, source.with_suffix("")):
        for path in (stem.with_name(stem.name + suffix) for suffix in (".xmp", ".XMP")):
            if found and _is_same(found[-1][0], path):
                continue  # the file system ignores case
            try:
                if path.is_fifo():  # it would be waited for
                    continue
                with path.open("rb") as file:
                    packet = file.read(LARGEST_PACKET + 1)
                if len(packet) > LARGEST_PACKET:
                    too_large = f"is larger than {LARGEST_PACKET >> 20} MiB and was not read"
                    notes.append(f"{path}: {too_large}; its XMP is missing from the picture")
                    continue
                found.append((str(path), packet))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):  # such a file there is not
                    continue
                notes.append(
                    f"{path}: cannot be read ({error.strerror}); its XMP is missing from the picture"
                )
    return found, notes


def _is_same(one: str, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return False


class Gathered(NamedTuple):
    """What is worth keeping of several packets."""

    packet: bytes
    """XMP in UTF-8; empty if there is nothing to keep."""
    texts: Mapping[str, str]
    """For the properties that EXIF has, too, time and place among them: their texts by their names in XMP,
    such as "dc:description"; several are joined by semicolons."""
    notes: tuple[str, ...]
    """What could not be read, one sentence each."""


def gather(
    name: str, embedded: bytes, sidecars: Iterable[tuple[str, bytes]], dated: bool, located: bool
) -> Gathered:
    """Merge the XMP of a raw and its sidecars, and keep what describes the scene. Never fails: a picture is
    developed without its caption, too.

    Parameters
    ----------
    name : str
        The raw file's.
    embedded : bytes
        The packet within it, in UTF-8 or UTF-16; empty if there is none.
    sidecars : (name of the file, packet)
        The first that has a property counts, and the embedded packet only after them. A sidecar that says it
        is for a raw with another suffix is passed over.
    dated, located : bool
        Whether the EXIF says when and where the picture was taken. Then only sidecars are asked for that:
        somebody has corrected it.
    """
    found: dict[str, ElementTree.Element] = {}
    dates: dict[str, ElementTree.Element] = {}
    notes = []
    for file, packet in (*sidecars, (name, embedded)):
        try:
            properties = _parse(packet)
            kept = {_short_name(key): value for key, value in properties.items() if _is_kept(key)}
            kept = _without_own_tags(kept)
            _to_packet(kept)  # nested too deeply, it cannot be written
        except (ElementTree.ParseError, RecursionError, ValueError) as error:  # UnicodeError, too
            notes.append(f"{file}: its XMP is damaged and was dropped ({error})")
            continue
        if file != name and not packet.strip(b"\0 \t\r\n"):
            notes.append(f"{file}: is empty; what it said is missing from the picture")
        made_for = properties.get(_SIDECAR_OF)
        suffix = (made_for.text or "") if made_for is not None and file != name else ""
        if suffix and not name.lower().endswith(f".{suffix}".lower()):
            continue
        if DATE in kept and _DATE_ALONE.fullmatch(_text(kept[DATE])):  # EXIF's have a time of day
            dates.setdefault(DATE, kept.pop(DATE))
        # time and place each come from one source
        for unit, needed, known in ((TIMES, (), dated), (PLACE, PLACE[:2], located)):
            settled = (known and file == name) or not found.keys().isdisjoint(unit)
            if settled or not kept.keys() >= set(needed):
                kept = {key: value for key, value in kept.items() if key not in unit}
        for key, value in kept.items():
            found.setdefault(key, value)
    texts = {key: _text(value) for key, value in found.items() if key in IN_EXIF}
    described = {key: value for key, value in found.items() if key not in (*TIMES, *PLACE)}
    if found.keys().isdisjoint(TIMES):
        described |= dates
    return Gathered(_to_packet(described), texts, tuple(notes))


def shortened(packet: bytes, size: int) -> tuple[bytes, list[str]]:
    """A packet of at most ``size`` bytes, by leaving out the longest properties; and their names."""
    found = dict(_parse(packet)) if len(packet) > size else {}
    sizes = {key: len(ElementTree.tostring(value)) for key, value in found.items()}
    longest_last = sorted(found, key=sizes.__getitem__)
    dropped = []
    while len(packet) > size:
        excess = len(packet) - size
        while excess > 0 and found:  # there may be thousands; a packet for each would take minutes
            longest = longest_last.pop()
            del found[longest]
            excess -= sizes[longest]
            dropped.append(_short_name(longest))
        packet = _to_packet(found)
    return packet, dropped


def values_in(packet: bytes) -> dict[str, str | list[str]]:
    """The texts of the properties of a packet from `gather`, by name, and lists of them: {"xmp:Rating": "5",
    "dc:subject": ["night", "lamp"]}."""
    properties = _parse(packet) if packet else {}
    return {
        _short_name(key): _entries(value) if _is_list(value) else _text(value)
        for key, value in properties.items()
    }


def _parse(packet: bytes) -> Properties:
    """The properties of the picture itself that say something. In RDF, simple ones may be attributes."""
    encoding = "utf-16" if packet[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = packet.decode(encoding).strip("\0 \t\r\n")
    if not text:
        return {}
    if end := _WRAPPER_END.search(text) or _RDF_END.search(text):  # what else programs leave behind it
        text = text[: end.end()]
    if "<!DOCTYPE" in text:  # XMP has none, and its entities can blow up to gigabytes
        raise ValueError("it has a document type")
    root = ElementTree.fromstring(text)
    properties: dict[str, ElementTree.Element] = {}
    for rdf in [root] if root.tag == _RDF + "RDF" else root.findall(_RDF + "RDF"):
        for description in rdf.findall(_RDF + "Description"):
            attributes = [ElementTree.Element(key) for key in description.attrib]
            for element in attributes:
                element.text = description.attrib[element.tag]
            for element in (*attributes, *description):
                uri, _, name = element.tag[1:].partition("}")
                if uri in _MISSPELLED:
                    element.tag = f"{{{_MISSPELLED[uri]}}}{name}"
                if not element.tag.startswith(_RDF) and _says_something(element):  # rdf:about says nothing
                    properties[element.tag] = element
    return properties


def _to_packet(properties: Properties) -> bytes:
    if not properties:
        return b""
    root = ElementTree.Element(_META + "xmpmeta")
    rdf = ElementTree.SubElement(root, _RDF + "RDF")
    description = ElementTree.SubElement(rdf, _RDF + "Description", {_RDF + "about": ""})
    description.extend(properties.values())
    return _HEAD + ElementTree.tostring(root, encoding="utf-8") + _TAIL


def _is_kept(key: str) -> bool:
    uri, _, name = key[1:].partition("}")
    prefix = _PREFIXES.get(uri, "")
    return name not in LEFT_OUT.get(prefix, ()) if prefix in WHOLE else name in KEPT.get(prefix, ())


def _without_own_tags(properties: dict[str, ElementTree.Element]) -> dict[str, ElementTree.Element]:
    """Without the keywords that darktable puts on a picture for itself."""
    hierarchy, flat = (properties.get(key) for key in ("lr:hierarchicalSubject", "dc:subject"))
    if hierarchy is None:
        return properties
    paths = {_text(entry) for entry in hierarchy.iter(_RDF + "li")}
    own = {path for path in paths if path.startswith(_OWN_TAGS)}
    own_words, words = ({word for path in some for word in path.split("|")} for some in (own, paths - own))
    for element, dropped in ((hierarchy, own), (flat, own_words - words)):
        for bag in () if element is None else element:
            for entry in [entry for entry in bag if _text(entry) in dropped]:
                bag.remove(entry)
    return {key: value for key, value in properties.items() if _says_something(value)}


def _says_something(element: ElementTree.Element) -> bool:
    """Whether there is any text in it, or an attribute that is a value."""
    return any(map(str.strip, element.itertext())) or any(_attributes(element))


def _attributes(element: ElementTree.Element) -> list[str]:
    """The values that are attributes: fields of structures, and links."""
    return [
        value.strip()
        for part in element.iter()
        for key, value in part.attrib.items()
        if key not in (_LANGUAGE, _RDF + "parseType")
    ]


def _text(element: ElementTree.Element) -> str:
    """A property's text: in the default language, if there are several; of a list all entries, of a structure
    all fields."""
    return "; ".join(_entries(element))


def _is_list(element: ElementTree.Element) -> bool:
    return element.find(_RDF + "Bag") is not None or element.find(_RDF + "Seq") is not None


def _entries(element: ElementTree.Element) -> list[str]:
    """The texts of a list; of other properties the only one."""
    entries = [entry for entry in element.findall(f"*/{_RDF}li") if _says_something(entry)]
    if element.find(_RDF + "Alt") is not None:
        entries = [entry for entry in entries if entry.get(_LANGUAGE) == "x-default"] or entries
        entries = entries[:1]
    return [
        ", ".join(filter(None, map(str.strip, entry.itertext()))) or ", ".join(_attributes(entry))
        for entry in entries or [element]
    ]


def _short_name(key: str) -> str:
    uri, _, name = key[1:].partition("}")
    return f"{_PREFIXES[uri]}:{name}"
