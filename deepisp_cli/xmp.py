"""What people wrote about a picture, as XMP: rating, title, caption, keywords, authors, rights, places.

It is gathered from the raw's packet and from sidecar files, and only what describes the scene is kept. Most
of what other programs write is about the raw: their settings, which programs would apply to the finished
picture once more, its history, its size. XMP: ISO 16684-1; which file has it: `exif_reader.xmp_packet`.
"""

import errno
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path

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
}
KEPT = {
    "xmp": ("Rating", "Label"),
    "photoshop": (
        *("Headline", "City", "State", "Country", "Credit", "Source", "Instructions", "AuthorsPosition"),
        *("CaptionWriter", "TransmissionReference", "Category", "SupplementalCategories", "Urgency"),
        "DateCreated",
    ),
    "lr": ("hierarchicalSubject", "weightedFlatSubject"),
    "digiKam": (*("TagsList", "CaptionsAuthorNames", "CaptionsDateTimeStamps", "ColorLabel", "PickLabel"),),
    "MicrosoftPhoto": ("LastKeywordXMP",),
    "exif": (),  # places only, see `_is_place`
}
# Of the whole namespaces: the raw's own format, and areas in pixels, which turning and cropping would move.
LEFT_OUT = {"dc": ("format",), "Iptc4xmpExt": ("ImageRegion",)}

XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"  # XMP specification part 3, section 1.1.3
LARGEST_PACKET = 1 << 24  # bytes that are read: Adobe's masks can have megabytes

_NAMESPACES = {**WHOLE, **PARTLY}
_PREFIXES = {uri: prefix for prefix, uri in _NAMESPACES.items()}
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
    found, notes = [], []
    for stem in (source, source.with_suffix("")):
        for path in (stem.with_name(stem.name + suffix) for suffix in (".xmp", ".XMP")):
            try:
                with path.open("rb") as file:
                    found.append((str(path), file.read(LARGEST_PACKET)))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):  # such a file there is not
                    continue
                notes.append(
                    f"{path}: cannot be read ({error.strerror}); its XMP is missing from the picture"
                )
    return found, notes


def gather(
    name: str, embedded: bytes, sidecars: Iterable[tuple[str, bytes]], located: bool
) -> tuple[bytes, tuple[str, ...]]:
    """One packet of what is worth keeping. Never fails: a picture is developed without its caption, too.

    Parameters
    ----------
    name : str
        The raw file's.
    embedded : bytes
        The packet within it, in UTF-8 or UTF-16; empty if there is none.
    sidecars : (name of the file, packet)
        The first that has a property counts, and the embedded packet only after them. A sidecar that says it
        is for a raw with another suffix is passed over.
    located : bool
        Whether the EXIF says where the picture was taken; only if not is XMP asked.

    Returns
    -------
    packet : bytes
        XMP in UTF-8; empty if there is nothing to keep.
    notes : tuple of str
        What could not be read, one sentence each.
    """
    found: dict[str, ElementTree.Element] = {}
    notes = []
    for file, packet in (*sidecars, (name, embedded)):
        try:
            properties = _parse(packet)
            kept = {key: value for key, value in properties.items() if _is_kept(key, located)}
            _to_packet(kept)  # nested too deeply, it cannot be written
        except (ElementTree.ParseError, RecursionError, ValueError) as error:  # UnicodeError, too
            notes.append(f"{file}: its XMP is damaged and was dropped ({error})")
            continue
        made_for = properties.get(_SIDECAR_OF)
        suffix = (made_for.text or "") if made_for is not None and file != name else ""
        if suffix and not name.lower().endswith(f".{suffix}".lower()):
            continue
        for key, value in kept.items():
            if _says_something(value):
                found.setdefault(key, value)
    return _to_packet(found), tuple(notes)


def shortened(packet: bytes, size: int) -> tuple[bytes, list[str]]:
    """A packet of at most ``size`` bytes, by leaving out the longest properties; and their names."""
    found = dict(_parse(packet)) if len(packet) > size else {}
    dropped = []
    while len(packet) > size:
        longest = max(found, key=lambda key: len(ElementTree.tostring(found[key])))
        del found[longest]
        dropped.append(_short_name(longest))
        packet = _to_packet(found)
    return packet, dropped


def names_in(packet: bytes) -> list[str]:
    """The properties of a packet from `gather`: "dc:title", "xmp:Rating"."""
    return [_short_name(key) for key in _parse(packet)] if packet else []


def _parse(packet: bytes) -> Properties:
    """The properties of the picture itself. In RDF, simple ones may also be attributes."""
    encoding = "utf-16" if packet[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    text = packet.decode(encoding).strip("\0 \t\r\n")
    if not text:
        return {}
    if "<!DOCTYPE" in text:  # XMP has none, and its entities can blow up to gigabytes
        raise ValueError("it has a document type")
    root = ElementTree.fromstring(text)
    rdf = root if root.tag == _RDF + "RDF" else root.find(_RDF + "RDF")
    properties = {}
    for description in () if rdf is None else rdf.findall(_RDF + "Description"):
        for key, value in description.attrib.items():
            if not key.startswith(_RDF):  # rdf:about
                properties[key] = element = ElementTree.Element(key)
                element.text = value
        for element in description:
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


def _is_kept(key: str, located: bool) -> bool:
    uri, _, name = key[1:].partition("}")
    prefix = _PREFIXES.get(uri, "")
    if prefix in WHOLE:
        return name not in LEFT_OUT.get(prefix, ())
    return name in KEPT.get(prefix, ()) or (prefix == "exif" and name.startswith("GPS") and not located)


def _says_something(element: ElementTree.Element) -> bool:
    """Whether there is any text in it, or an attribute that is a value."""
    attributes = {key for part in element.iter() for key in part.attrib}
    return bool(attributes - {_LANGUAGE, _RDF + "parseType"}) or any(map(str.strip, element.itertext()))


def _short_name(key: str) -> str:
    uri, _, name = key[1:].partition("}")
    return f"{_PREFIXES[uri]}:{name}"
