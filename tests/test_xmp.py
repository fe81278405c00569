"""What people wrote about a picture comes along; what programs wrote about the raw does not."""

import io
import os
import struct
import xml.etree.ElementTree as ElementTree
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from deepisp_cli import xmp
from deepisp_cli.exif_reader import xmp_packet
from deepisp_cli.frame import Result
from deepisp_cli.metadata import Metadata, read_metadata
from deepisp_cli.naming import fill
from deepisp_cli.output import write_picture
from deepisp_cli.pipeline import load
from deepisp_cli.xmp import gather, read_sidecars, shortened, values_in

NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "darktable": "http://darktable.sf.net/",
    "cc": "http://creativecommons.org/ns#",
    "my": "http://example.org/my/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "mwg-kw": "http://www.metadataworkinggroup.com/schemas/keywords/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
}
DECLARED = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())


def names_in(packet):
    return list(values_in(packet))


def test_thousands_of_properties_are_shortened_at_once():
    many = "".join(f"<dc:p{number}>{'x' * 40}</dc:p{number}>" for number in range(3000))
    whole = kept(packet(many + "<dc:short>x</dc:short>"))
    short, dropped = shortened(whole, len(whole) // 2)
    assert len(short) <= len(whole) // 2
    assert names_in(short)[-1:] == ["dc:short"] and len(names_in(short)) + len(dropped) == 3001
    assert len(short) > len(whole) // 3  # not much more than there is no room for


def test_a_pipe_for_a_sidecar_is_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no such pipes here")
    os.mkfifo(tmp_path / "a.xmp")
    assert read_sidecars(tmp_path / "a.dng") == ([], [])


def test_a_sidecar_too_large_is_told_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(xmp, "LARGEST_PACKET", 1 << 20)
    (tmp_path / "a.xmp").write_bytes(bytes((1 << 20) + 1))
    (tmp_path / "a.dng.xmp").write_bytes(packet(title("x")).ljust(1 << 20))
    found, notes = read_sidecars(tmp_path / "a.dng")
    assert [name for name, _ in found] == [str(tmp_path / "a.dng.xmp")]
    assert notes == [
        f"{tmp_path / 'a.xmp'}: is larger than 1 MiB and was not read; its XMP is missing from the picture"
    ]


def test_info_lists_what_people_wrote():
    """So that a shell can choose by rating or keyword."""
    keywords = "<dc:subject><rdf:Bag><rdf:li>night</rdf:li><rdf:li>lamp</rdf:li></rdf:Bag></dc:subject>"
    found = kept(packet(keywords, 'xmp:Rating="-1"'))
    assert values_in(found) == {"dc:subject": ["night", "lamp"], "xmp:Rating": "-1"}
    assert values_in(b"") == {}
    for image, packed, rating in (
        ({}, found, -1),
        ({0x4746: 4}, found, -1),
        ({0x4746: 4}, b"", 4),
        ({}, kept(packet("", 'xmp:Rating="3.0"')), 3),
        ({}, kept(packet("", 'xmp:Rating="many"')), None),
        ({}, b"", None),
    ):
        assert Metadata(image=image, xmp=packed).rating == rating


def packet(elements="", attributes="", about='rdf:about=""') -> bytes:
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f"<rdf:RDF {DECLARED}><rdf:Description {about} {attributes}>{elements}</rdf:Description></rdf:RDF>"
        f'</x:xmpmeta>\n{" " * 100}<?xpacket end="w"?>'
    ).encode()


def title(text: str) -> str:
    return f'<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt></dc:title>'


def keywords(*words: str) -> str:
    return (
        f"<dc:subject><rdf:Bag>{''.join(f'<rdf:li>{word}</rdf:li>' for word in words)}</rdf:Bag></dc:subject>"
    )


def kept(embedded, sidecars=(), dated=False, located=False) -> bytes:
    """What remains of an embedded packet and sidecars."""
    found = gather("a.nef", embedded, sidecars, dated, located)
    assert found.notes == ()
    return found.packet


def texts(found: bytes, name: str) -> list[str]:
    """The texts of a property in a packet."""
    prefix, _, local = name.partition(":")
    root = ElementTree.fromstring(found.decode().strip("\ufeff"))
    elements = root.findall(f".//{{{NAMESPACES['rdf']}}}Description/{{{NAMESPACES[prefix]}}}{local}")
    return [text.strip() for element in elements for text in element.itertext() if text.strip()]


def test_what_describes_the_scene_is_kept():
    found = kept(
        packet(
            title("Night é") + keywords("a", "b") + '<cc:license rdf:resource="http://example.org/"/>',
            'xmp:Rating="4" xmp:Label="Red" photoshop:City="Rome" Iptc4xmpExt:Event="wedding"',
        )
    )
    assert set(names_in(found)) == {
        *("dc:title", "dc:subject", "cc:license", "xmp:Rating", "xmp:Label", "photoshop:City"),
        "Iptc4xmpExt:Event",
    }
    assert texts(found, "dc:title") == ["Night é"]
    assert texts(found, "dc:subject") == ["a", "b"]
    assert texts(found, "xmp:Rating") == ["4"]
    assert b'rdf:resource="http://example.org/"' in found
    assert b'xml:lang="x-default"' in found
    assert b"ns0:" not in found


PROMISED = """
    dc:title dc:description dc:subject dc:creator dc:rights dc:publisher dc:contributor dc:language dc:source
    xmpRights:Marked xmpRights:Owner xmpRights:UsageTerms xmpRights:WebStatement
    plus:ImageCreator plus:CopyrightOwner plus:Licensor plus:ModelReleaseStatus
    cc:license cc:attributionName cc:attributionURL
    Iptc4xmpCore:CreatorContactInfo Iptc4xmpCore:Location Iptc4xmpCore:CountryCode Iptc4xmpCore:Scene
    Iptc4xmpCore:AltTextAccessibility Iptc4xmpExt:PersonInImage Iptc4xmpExt:LocationCreated
    Iptc4xmpExt:LocationShown Iptc4xmpExt:Event Iptc4xmpExt:DigitalSourceType
    mwg-kw:Keywords xmp:Rating xmp:Label
    photoshop:Headline photoshop:City photoshop:State photoshop:Country photoshop:Credit photoshop:Source
    photoshop:Instructions photoshop:AuthorsPosition photoshop:CaptionWriter photoshop:TransmissionReference
    photoshop:Category photoshop:SupplementalCategories photoshop:Urgency
    lr:hierarchicalSubject lr:weightedFlatSubject
    digiKam:TagsList digiKam:ColorLabel digiKam:PickLabel
    digiKam:CaptionsAuthorNames digiKam:CaptionsDateTimeStamps
    MicrosoftPhoto:LastKeywordXMP
"""


@pytest.mark.parametrize("name", PROMISED.split())
def test_all_that_the_documentation_promises_is_kept(name):
    """docs/how-it-works.md, XMP."""
    assert texts(kept(packet(f"<{name}>text</{name}>")), name) == ["text"]
    assert texts(kept(b"", [("a.xmp", packet("", f'{name}="text"'))]), name) == ["text"]


@pytest.mark.parametrize(
    "attribute",
    [
        *('crs:Exposure2012="+1.5"', 'crs:AlreadyApplied="False"', 'xmpMM:DocumentID="x"', 'darktable:a="1"'),
        *('tiff:Orientation="6"', 'exif:ISO="100"', 'dc:format="image/dng"', 'xmp:CreatorTool="x"'),
        *('photoshop:SidecarForExtension="NEF"', 'xmp:ModifyDate="2020-01-01"', 'my:note="x"'),
        *('photoshop:ColorMode="3"', 'Iptc4xmpExt:ImageRegion="x"', 'dc:title=""', 'xmp:Label=" "'),
    ],
)
def test_what_is_about_the_raw_is_left_out(attribute):
    assert kept(packet("", attribute)) == b""
    element, _, value = attribute.partition("=")
    assert kept(packet(f"<{element}>{value.strip(chr(34))}</{element}>")) == b""
    assert names_in(kept(packet(title("x"), attribute))) == ["dc:title"]


def test_an_empty_title_is_none():
    assert kept(packet(title("") + "<dc:rights rdf:parseType='Resource'> </dc:rights>")) == b""


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode() + bytes(100),
        lambda text: text[text.index("<rdf:RDF") : text.index("</x:xmpmeta")].encode(),
        lambda text: b"<?xml version='1.0' encoding='UTF-8'?>\n" + text.encode(),
        lambda text: text.replace('rdf:about=""', 'about=""').encode(),
    ],
    ids=["utf-16 le", "utf-16 be", "mark", "zeros", "bare", "declared", "old"],
)
def test_every_form_of_a_packet_is_read(change):
    assert texts(kept(change(packet(title("Ä")).decode())), "dc:title") == ["Ä"]


def test_several_descriptions_are_one():
    text = packet(title("x")).decode()
    more = f'<rdf:Description rdf:about="" xmlns:a="{NAMESPACES["xmp"]}" a:Rating="3"/></rdf:RDF>'
    assert names_in(kept(text.replace("</rdf:RDF>", more).encode())) == ["dc:title", "xmp:Rating"]


def test_a_sidecar_wins_property_by_property():
    embedded = packet(title("camera") + keywords("a", "b", "c"), 'xmp:Rating="0" xmp:Label="Red"')
    first = packet(title("mine"))
    second = packet(title("other") + keywords("d"), 'xmp:Rating="5"')
    found = kept(embedded, [("a.nef.xmp", first), ("a.xmp", second)])
    assert texts(found, "dc:title") == ["mine"]
    assert texts(found, "dc:subject") == ["d"]
    assert texts(found, "xmp:Rating") == ["5"]
    assert texts(found, "xmp:Label") == ["Red"]


@pytest.mark.parametrize(("suffix", "used"), [("NEF", True), ("nef", True), ("CR2", False), ("", True)])
def test_a_sidecar_can_be_for_another_raw(suffix, used):
    sidecar = packet(title("x"), f'photoshop:SidecarForExtension="{suffix}"')
    assert bool(kept(b"", [("a.xmp", sidecar)])) == used
    if used:
        assert texts(kept(b"", [("a.xmp", sidecar.replace(b"dc:title", b"dc:rights"))]), "dc:rights") == ["x"]
    assert kept(sidecar)  # a converter may have put it into the raw itself


def test_nothing_empty_takes_the_place_of_something():
    mail = '<Iptc4xmpExt:Contact my:mail="me@x.org"/>'
    assert b"me@x.org" in kept(packet(mail), [("a.xmp", packet(mail.replace("me@x.org", "")))])
    nested = '<Iptc4xmpExt:Contact><rdf:Description rdf:about=""/></Iptc4xmpExt:Contact>'
    assert b"me@x.org" in kept(packet(mail), [("a.xmp", packet(nested))])
    assert texts(kept(packet(title("x") + title(""))), "dc:title") == ["x"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + text,
        lambda text: text + "\0\0junk<",
        lambda text: text[text.index("<rdf:RDF") : text.index("</x:xmpmeta")] + "<junk",
    ],
)
def test_what_comes_after_a_packet_is_passed_over(change):
    assert texts(kept(change(packet(title("x")).decode()).encode()), "dc:title") == ["x"]


@pytest.mark.parametrize("name", ["x:xmpmeta", "x:xapmeta", "meta:xmpmeta", "x:xmpmeta "])
def test_the_wrapper_of_a_packet_may_be_spelled_in_several_ways(name):
    """Adobe's first programs, Microsoft's."""
    prefix, _, rest = name.partition(":")
    text = packet(title("x")).decode().replace("</x:xmpmeta>", f"</{name}>\0junk<")
    text = text.replace("<x:xmpmeta xmlns:x=", f"<{prefix}:{rest.strip()} xmlns:{prefix}=")
    assert texts(kept(text.encode()), "dc:title") == ["x"]


def test_several_rdfs_are_one():
    first = packet(title("x")).decode()
    second = packet("", 'xmp:Rating="3"').decode()
    second = second[second.index("<rdf:RDF") : second.index("</x:xmpmeta")]
    assert names_in(kept(first.replace("</x:xmpmeta", second + "</x:xmpmeta").encode())) == [
        *("dc:title", "xmp:Rating"),
    ]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<x:xmpmeta", "unclosed token"),
        (packet(title("x"))[:-150], "unclosed token"),
        (packet(title("x")).replace(b"title", b"t\xff"), "decode"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]>' + packet(title("&b;")), "document type"),
        (('<!DOCTYPE a [<!ENTITY b "c">]>' + packet().decode()).encode("utf-16"), "document type"),
    ],
    ids=["cut", "half", "latin", "entities", "hidden"],
)
def test_damage_is_noted_and_the_rest_is_kept(data, words):
    found, _, notes = gather("a.nef", packet(title("x")), [("a.xmp", data)], False, False)
    assert names_in(found) == ["dc:title"]
    (note,) = notes
    assert note.startswith("a.xmp: ") and words in note


def test_nesting_without_end_is_damage():
    deep = f"<dc:title>{'<dc:a>' * 5000}x{'</dc:a>' * 5000}</dc:title>"
    found, _, notes = gather("a.nef", packet(title("x")), [("a.xmp", packet(deep))], False, False)
    assert names_in(found) == ["dc:title"]
    assert notes[0].startswith("a.xmp: ")


@given(st.binary(max_size=200), st.integers(0, 900))
def test_nothing_fails(data, start):
    gather("a", data, [], False, False)
    whole = packet(title("x") + keywords("y"))
    gather("a", whole[:start] + data + whole[start + len(data) :], [("a.xmp", data)], True, True)


def test_only_xmp_is_read_from_rdf():
    assert kept(b"<html><body/></html>") == kept(b"") == kept(bytes(50)) == b""


# --- containers ---


def tiff(order: str) -> bytes:
    xmp = packet(title("x"))
    ifd = struct.pack(order + "HHHIII", 1, 700, 1, len(xmp), 26, 0)
    return {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8) + ifd + xmp


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "jpeg", exif=Image.Exif())
    app1 = b"http://ns.adobe.com/xap/1.0/\0" + packet(title("x"))
    return (
        buffer.getvalue()[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + buffer.getvalue()[2:]
    )


def raf() -> bytes:
    return b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0") + struct.pack(">I", 148) + bytes(60) + jpeg()


def cr3() -> bytes:
    def box(kind, body):
        return struct.pack(">I", 8 + len(body)) + kind + body

    xmp = box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + packet(title("x")) + b" " * 50)
    return box(b"ftyp", b"crx \0\0\0\1crx isom") + box(b"moov", bytes(50)) + xmp + box(b"mdat", b"<" * 90)


CONTAINERS = {"little": tiff("<"), "big": tiff(">"), "jpeg": jpeg(), "raf": raf(), "cr3": cr3()}
containers = pytest.mark.parametrize("data", CONTAINERS.values(), ids=CONTAINERS)


@containers
def test_every_container_is_opened(data):
    assert xmp_packet(io.BytesIO(data)).rstrip() == packet(title("x"))
    metadata = read_metadata(io.BytesIO(data), "a.nef")
    assert texts(metadata.xmp, "dc:title") == ["x"]
    sidecar = packet(title("y"))
    metadata = read_metadata(io.BytesIO(data), "a.nef", sidecars=[("a.xmp", sidecar)])
    assert texts(metadata.xmp, "dc:title") == ["y"]


@containers
def test_damaged_containers_do_no_harm(data):
    for size in range(0, 700, 7):
        xmp_packet(io.BytesIO(data[:size]))


def hierarchy(*paths: str) -> str:
    return keywords(*paths).replace("dc:subject", "lr:hierarchicalSubject")


def test_keywords_of_darktable_for_itself_are_left_out():
    own = ("darktable|exported", "darktable|format|dng")
    flat = keywords("Wren", "darktable", "exported", "format", "dng", "birds")
    found = kept(b"", [("a.xmp", packet(flat + hierarchy("birds|Wren", *own)))])
    assert texts(found, "dc:subject") == ["Wren", "birds"]
    assert texts(found, "lr:hierarchicalSubject") == ["birds|Wren"]
    found = kept(b"", [("a.xmp", packet(flat + hierarchy("software|darktable", "birds", *own)))])
    assert texts(found, "dc:subject") == ["Wren", "darktable", "birds"]
    assert kept(b"", [("a.xmp", packet(keywords("exported", "darktable") + hierarchy(*own)))]) == b""
    assert texts(kept(b"", [("a.xmp", packet(keywords("darktable")))]), "dc:subject") == ["darktable"]
    paths = ("birds|Wren", "software|darktable|styles")
    for flat, left in ((), []), (("styles", "darktable", "exported"), ["styles", "darktable"]):
        found = kept(packet((keywords(*flat) if flat else "") + hierarchy(*paths, "darktable|exported")))
        assert texts(found, "lr:hierarchicalSubject") == list(paths)
        assert texts(found, "dc:subject") == left


def test_a_namespace_without_its_last_slash_is_the_same():
    """As exiftool writes Microsoft's."""
    spelled = packet("", 'xmlns:M="http://ns.microsoft.com/photo/1.0" M:LastKeywordXMP="a/b"')
    found = kept(spelled)
    assert values_in(found) == {"MicrosoftPhoto:LastKeywordXMP": "a/b"}
    assert b'"http://ns.microsoft.com/photo/1.0/"' in found


def test_structures_and_links_have_their_fields_as_text():
    fields = 'rdf:parseType="Resource" Iptc4xmpExt:City="Gotha" Iptc4xmpExt:CountryName="Germany"'
    place = (
        f"<Iptc4xmpExt:LocationCreated><rdf:Bag><rdf:li {fields}/></rdf:Bag></Iptc4xmpExt:LocationCreated>"
    )
    contact = (
        "<Iptc4xmpCore:CreatorContactInfo rdf:parseType='Resource'>\n <Iptc4xmpCore:CiAdrCity>Gotha"
        "</Iptc4xmpCore:CiAdrCity>\n <Iptc4xmpCore:CiTelWork>0049</Iptc4xmpCore:CiTelWork>\n"
        "</Iptc4xmpCore:CreatorContactInfo>"
    )
    licence = '<cc:license rdf:resource="http://example.org/by"/>'
    assert values_in(kept(packet(place + contact + licence))) == {
        "Iptc4xmpExt:LocationCreated": ["Gotha, Germany"],
        "Iptc4xmpCore:CreatorContactInfo": "Gotha, 0049",
        "cc:license": "http://example.org/by",
    }


def test_picks_colours_and_notes_of_other_programs_are_kept():
    uris = {"xmpDM": "http://ns.adobe.com/xmp/1.0/DynamicMedia/", "acdsee": "http://ns.acdsee.com/iptc/1.0/"}
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in uris.items())
    labels = "<darktable:colorlabels><rdf:Seq><rdf:li>2</rdf:li></rdf:Seq></darktable:colorlabels>"
    found = kept(packet(labels, f'{declared} xmpDM:pick="1" acdsee:notes="dusk" darktable:history_end="9"'))
    assert values_in(found) == {"xmpDM:pick": "1", "acdsee:notes": "dusk", "darktable:colorlabels": ["2"]}


def test_a_lens_that_exif_lacks_comes_from_the_xmp():
    uris = 'xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" xmlns:exifEX="http://cipa.jp/exif/1.0/"'
    for stated, expected in (
        ('aux:Lens="20 mm"', "20 mm"),
        ('aux:Lens="20 mm" exifEX:LensModel="AF 20 mm f/2.8"', "AF 20 mm f/2.8"),
    ):
        sidecars = [("a.xmp", packet("", f"{uris} {stated}"))]
        assert read_metadata(exif_of(), "a.nef", sidecars=sidecars).lens == expected
        known = read_metadata(exif_of(), "a.nef", sidecars=sidecars, fallback={"lens": "of LibRaw"})
        assert known.lens == "of LibRaw"
        unknown = read_metadata(exif_of(), "a.nef", sidecars=sidecars, fallback={"lens": "----"})
        assert unknown.lens == expected
    assert read_metadata(exif_of(), "a.nef", fallback={"lens": "----"}).exif == {}


# --- what EXIF has, too ---


def exif_of(image=None, gps=None) -> io.BytesIO:
    block = Image.Exif()
    block.update(image or {})
    if gps:
        block[0x8825] = gps
    return io.BytesIO(block.tobytes()[6:])


def lines(name: str, *entries: str) -> str:
    found = "".join(f'<rdf:li xml:lang="{entry[:2]}">{entry}</rdf:li>' for entry in entries)
    return f"<{name}><rdf:Alt>{found}</rdf:Alt></{name}>"


WINDOWS = {tag: f"old {tag}".encode("utf-16-le") + bytes(2) for tag in range(0x9C9B, 0x9CA0)}


def test_exif_says_what_the_xmp_says():
    """There would be two captions, and two ratings, of which programs show either."""
    old = {
        0x010E: "OLYMPUS",
        0x013B: "camera",
        0x8298: "camera",
        0x4746: 0,
        0x4749: 0,
        0x0110: "M",
        **WINDOWS,
    }
    creators = "<dc:creator><rdf:Seq><rdf:li>A</rdf:li><rdf:li>B</rdf:li></rdf:Seq></dc:creator>"
    caption = lines("dc:description", "de: ein", "x-default").replace('"x-"', '"x-default"')
    rights = lines("dc:rights", "me", "you")
    sidecar = packet(title("t") + keywords("k") + caption + creators + rights, 'xmp:Rating="5"')
    metadata = read_metadata(exif_of(old), "a.nef", sidecars=[("a.xmp", sidecar)])
    assert metadata.image == {0x010E: "x-default", 0x013B: "A; B", 0x8298: "me", 0x4746: 5, 0x0110: "M"}
    names = {"dc:title", "dc:subject", "dc:description", "dc:creator", "dc:rights", "xmp:Rating"}
    assert set(names_in(metadata.xmp)) == names
    label = [("a.xmp", packet("", 'xmp:Label="Red"'))]
    assert read_metadata(exif_of(old), "a.nef", sidecars=label).image == old
    only_title = read_metadata(exif_of(old), "a.nef", sidecars=[("a.xmp", packet(title("x")))])
    assert only_title.image == {tag: value for tag, value in old.items() if tag != 0x9C9B}


@pytest.mark.parametrize(
    ("rating", "found"),
    [("0", 0), ("4", 4), ("5", 5), ("3.0", 3), ("-1", None), ("6", None), ("3.5", None), ("?", None)],
)
def test_ratings_are_none_to_five_whole_stars_in_exif(rating, found):
    sidecars = [("a.xmp", packet("", f'xmp:Rating="{rating}"'))]
    metadata = read_metadata(exif_of({0x4746: 1, 0x4749: 1}), "a.nef", sidecars=sidecars)
    assert metadata.image == ({} if found is None else {0x4746: found})
    assert texts(metadata.xmp, "xmp:Rating") == [rating]
    assert metadata.notes == ()  # of time and place, which it does not state


PLACE = 'exif:GPSLatitude="48,51.5S" exif:GPSLongitude="2,17,42W" exif:GPSAltitude="71/2" exif:ISO="100"'
THERE = {1: "S", 2: (48, Fraction(103, 2), 0), 3: "W", 4: (2, 17, 42), 5: 0, 6: Fraction(71, 2)}
ELSEWHERE = {1: "N", 2: (1, 2, 3), 3: "E", 4: (4, 5, 6), 5: 1, 6: 3000, 17: 90, 29: "2024:05:06"}


def test_a_place_goes_into_the_exif():
    """A sidecar's is what somebody has set; one in the raw is the camera's, and EXIF's is as good."""
    sidecars = [("a.xmp", packet(title("x"), PLACE))]
    metadata = read_metadata(exif_of(), "a.nef", sidecars=sidecars)
    assert metadata.gps == THERE
    assert names_in(metadata.xmp) == ["dc:title"]
    metadata = read_metadata(exif_of(gps=ELSEWHERE), "a.nef", sidecars=sidecars)
    assert metadata.gps == {**THERE, 29: "2024:05:06"}  # neither height nor direction of the other place
    below = PLACE + ' exif:GPSAltitudeRef="1"'
    assert read_metadata(exif_of(), "a.nef", sidecars=[("a", packet("", below))]).gps == {**THERE, 5: 1}
    flat = {tag: value for tag, value in THERE.items() if tag < 5}
    for height in ("0/0", "", "high"):
        sidecar = packet("", PLACE.replace("71/2", height))
        metadata = read_metadata(exif_of(), "a", sidecars=[("a", sidecar)])
        assert (metadata.gps, metadata.notes) == (flat, ())
    level = packet("", PLACE.partition(" exif:GPSAltitude")[0])
    mixed = read_metadata(exif_of(), "a", sidecars=[("a", level), ("b", packet("", PLACE))])
    assert mixed.gps == flat  # the height is of the other place
    embedded = packet("", PLACE)
    for gps, expected in ((None, THERE), (ELSEWHERE, ELSEWHERE)):
        assert read_metadata(exif_of({700: embedded}, gps), "a.nef").gps == expected
    half = PLACE.split(" ")[0] + ' exif:GPSAltitude="1/1"'
    assert read_metadata(exif_of(), "a", sidecars=[("a", packet("", half))]).gps == {}
    assert read_metadata(exif_of(), "a", sidecars=[("a", packet("", half)), sidecars[0]]).gps == THERE


@pytest.mark.parametrize(("degrees", "corrected"), [(48.858333, False), (12.5, True)])
def test_a_place_whose_exif_states_degrees_alone_is_compared(degrees, corrected):
    alone = {1: "S", 2: IFDRational(round(degrees * 10**6), 10**6), 3: "W", 4: IFDRational(2295, 1000)}
    read = read_metadata(exif_of(gps=alone), "a.nef", sidecars=[("a.xmp", packet("", PLACE))])
    assert read.gps[2] == (THERE[2] if corrected else alone[2])
    assert read.notes == ()


@pytest.mark.parametrize("side", ["N", "S"])
def test_a_place_in_degrees_is_read(side):
    """Apple's programs write it, with elements for the letters."""
    body = f"""<exif:GPSLatitude>24.841374999999999</exif:GPSLatitude>
        <exif:GPSLongitude>166.94649999999999</exif:GPSLongitude>
        <exif:GPSLatitudeRef>{side}</exif:GPSLatitudeRef><exif:GPSLongitudeRef>E</exif:GPSLongitudeRef>"""
    metadata = read_metadata(exif_of(), "a.nef", sidecars=[("a.xmp", packet(body))])
    latitude, minutes, seconds = metadata.gps[2]
    assert (metadata.gps[1], latitude, seconds) == (side, 24, 0)
    assert minutes == pytest.approx(50.4825)
    assert (metadata.gps[3], metadata.gps[4][0]) == ("E", 166)
    assert not metadata.xmp and not metadata.notes
    almost = body.replace("24.841374999999999", "24.999999999999")
    metadata = read_metadata(exif_of(), "a.nef", sidecars=[("a.xmp", packet(almost))])
    assert metadata.gps[2] == (25, 0, 0)
    for wrong in (body.replace("24.8", "-24.8"), body.replace(f">{side}<", ">up<")):
        metadata = read_metadata(exif_of(), "a.nef", sidecars=[("a.xmp", packet(wrong))])
        assert not metadata.gps and len(metadata.notes) == 1


def test_a_place_that_a_sidecar_only_repeats_loses_nothing():
    """darktable writes it, rounded, into the sidecar of each raw."""
    near = {**THERE, 2: (48, 51, IFDRational(300002, 10000)), 5: b"\0", 6: 36, 17: 90, 31: 5}
    read = read_metadata(exif_of(gps=near), "a.nef", sidecars=[("a.xmp", packet("", PLACE))])
    near |= {5: 0}
    assert read.gps == {**near, 2: (48, 51, Fraction(300002, 10000))}
    for other, below in ((30, 0), (36, 1)):  # a height that somebody has corrected
        read = read_metadata(
            exif_of(gps={**near, 5: bytes([below]), 6: other}), "a.nef", sidecars=[("a", packet("", PLACE))]
        )
        assert (read.gps[5], read.gps[6], read.gps[17]) == (0, THERE[6], 90)
    near |= {2: (48, 51, 30)}
    without_height = {tag: value for tag, value in near.items() if tag not in (5, 6)}
    read = read_metadata(exif_of(gps=without_height), "a.nef", sidecars=[("a.xmp", packet("", PLACE))])
    assert read.gps == {**near, 6: THERE[6]}
    for moved in ({2: (48, 51, 31)}, {1: "N"}, {3: "E"}, {4: (2, 17, 43)}):
        read = read_metadata(
            exif_of(gps={**near, 5: b"\0", **moved}), "a.nef", sidecars=[("a", packet("", PLACE))]
        )
        assert read.gps == THERE


@pytest.mark.parametrize(
    ("height", "below", "expected"),
    [
        ("-71/2", "", {5: 1, 6: Fraction(71, 2)}),
        ("71/2", "300", {5: 0, 6: Fraction(71, 2)}),
        ("71/2", "-1", {5: 0, 6: Fraction(71, 2)}),
        ("35.5", "1", {5: 1, 6: Fraction(71, 2)}),
        ("1e99999999", "", {}),
        ("٣٥", "", {}),
    ],
)
def test_heights_are_numbers_of_a_few_digits(height, below, expected):
    stated = PLACE.replace("71/2", height) + f' exif:GPSAltitudeRef="{below}"'
    found = read_metadata(exif_of(), "a", sidecars=[("a", packet("", stated))])
    assert found.gps == {**{tag: THERE[tag] for tag in (1, 2, 3, 4)}, **expected}


@pytest.mark.parametrize(
    "wrong",
    [
        "1e-99999999,0N",
        "north",
        "48,51.5",
        "48N",
        "48,x,1N",
        "481,1N",
        "48,51.5E",
        "1/0,1N",
        "91,0N",
        "90,30N",
        "48,60N",
        "48,-1N",
        "48,1,60N",
    ],
)
def test_a_place_that_makes_no_sense_is_noted(wrong):
    sidecar = packet("", PLACE.replace("48,51.5S", wrong))
    metadata = read_metadata(exif_of(gps=ELSEWHERE), "a.nef", sidecars=[("a.xmp", sidecar)])
    assert metadata.gps == ELSEWHERE
    assert [note for note in metadata.notes if "a.xmp or a.nef: the place in its XMP makes no sense" in note]


@pytest.mark.parametrize("stated", [{0: b"\2\3\0\0"}, {29: "2024:05:06"}, {1: "N", 2: (1, 2, 3)}])
def test_what_exif_says_without_a_place_leaves_that_of_the_xmp(stated):
    """Cameras without a receiver write the version of the GPS tags alone."""
    found = read_metadata(exif_of({700: packet("", PLACE)}, stated), "a.nef").gps
    assert {tag: found.get(tag) for tag in THERE} == THERE


CLOCK = {0x9003: "2026:11:22 21:30:00", 0x9004: "2026:11:22 21:30:00", 0x9291: "43", 0x9011: "+01:00"}


def exif_times(**options) -> dict:
    block = Image.Exif()
    block[0x8769] = dict(CLOCK)
    return read_metadata(io.BytesIO(block.tobytes()[6:]), "a.nef", **options)


@pytest.mark.parametrize("stated", ["2026-11-22T21:30", "2026-11-22T20:30Z"])
def test_a_time_without_seconds_that_is_the_same_corrects_nothing(stated):
    clock = {0x9003: "2026:11:22 21:30:09", 0x9291: "43", 0x9011: "+01:00"}
    sidecars = [("a.xmp", packet("", f'photoshop:DateCreated="{stated}"'))]
    block = Image.Exif()
    block[0x8769] = clock
    assert read_metadata(io.BytesIO(block.tobytes()[6:]), "a.nef", sidecars=sidecars).exif == clock
    block[0x8769] = {}
    found = read_metadata(io.BytesIO(block.tobytes()[6:]), "a.nef", sidecars=sidecars).exif
    assert found[0x9003] == stated.replace("-", ":").replace("T", " ").rstrip("Z") + ":00"


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (
            'exif:DateTimeOriginal="2026-11-22T23:30:00.25+02:00" photoshop:DateCreated="2020-01-01T00:00"',
            {
                **{0x9003: "2026:11:22 23:30:00", 0x9291: "25", 0x9011: "+02:00"},
                **{0x9004: "2026:11:22 23:30:00", 0x9292: "25", 0x9012: "+02:00"},
            },
        ),
        (
            'photoshop:DateCreated="2026-11-23T00:01Z"',
            {
                **{0x9003: "2026:11:23 00:01:00", 0x9011: "+00:00"},
                **{0x9004: "2026:11:23 00:01:00", 0x9012: "+00:00"},
            },
        ),
        (
            'exif:DateTimeOriginal="2026:11:22 22:45:10.000"',
            {0x9003: "2026:11:22 22:45:10", 0x9011: "+01:00", 0x9004: "2026:11:22 22:45:10"},
        ),
        ('exif:DateTimeOriginal="2026-11-22T21:30:00"', CLOCK),
        ('exif:DateTimeOriginal="2026-11-22T21:30"', CLOCK),
        ('exif:DateTimeOriginal="2026-11-22T20:30:00Z"', CLOCK),
        ('exif:DateTimeOriginal="2026-11-23T02:00:00.1+05:30"', CLOCK),
        ('exif:DateTimeOriginal="2026-11-22T21:30:00.00+03:00"', CLOCK),
        ('exif:DateTimeOriginal="2026"', CLOCK),
        ('exif:DateTimeOriginal="2026-13-22T21:30:00"', CLOCK),
    ],
)
def test_a_corrected_time_goes_into_the_exif(attributes, expected):
    metadata = exif_times(sidecars=[("a.xmp", packet(title("x"), attributes))])
    assert metadata.exif == expected
    assert names_in(metadata.xmp) == ["dc:title"]
    odd = '"2026"' in attributes or "-13-" in attributes
    assert any("the time in its XMP makes no sense" in note for note in metadata.notes) == odd


@pytest.mark.parametrize("lacking", [{0x9011: "+02:00"}, {0x9291: "5"}, {0x9011: "+02:00", 0x9291: "5"}, {}])
def test_an_equal_time_adds_what_exif_lacks(lacking):
    block = Image.Exif()
    block[0x8769] = {tag: value for tag, value in CLOCK.items() if tag not in lacking}
    sidecar = packet("", 'exif:DateTimeOriginal="2026-11-22T21:30:00.5+02:00"')
    found = read_metadata(io.BytesIO(block.tobytes()[6:]), "a.nef", sidecars=[("a.xmp", sidecar)])
    assert found.exif == {**CLOCK, **lacking}


def test_the_raws_own_packet_is_asked_for_the_time_only_if_exif_has_none():
    embedded = packet("", 'exif:DateTimeOriginal="2020-01-02T03:04:05"')
    assert read_metadata(exif_of({700: embedded}), "a.nef").exif == {0x9003: "2020:01:02 03:04:05"}
    block = Image.Exif()
    block[700], block[0x8769] = embedded, dict(CLOCK)
    metadata = read_metadata(io.BytesIO(block.tobytes()[6:]), "a.nef")
    assert (metadata.exif, metadata.xmp) == (CLOCK, b"")


def test_what_was_digitised_at_another_time_has_no_correction():
    block = Image.Exif()
    block[0x8769] = {**CLOCK, 0x9004: "2026:11:25 10:00:00", 0x9012: "+03:00"}
    sidecar = packet("", 'exif:DateTimeOriginal="2026-11-22T21:31:00"')
    found = read_metadata(io.BytesIO(block.tobytes()[6:]), "a.nef", sidecars=[("a.xmp", sidecar)])
    assert found.exif == {0x9003: "2026:11:22 21:31:00", 0x9011: "+01:00"}


@pytest.mark.parametrize("date", ["2019", "2019-05", "2019-05-04"])
def test_a_date_without_a_time_of_day_stays_in_the_xmp(date):
    metadata = exif_times(sidecars=[("a.xmp", packet("", f'photoshop:DateCreated="{date}"'))])
    assert (metadata.exif, metadata.notes) == (CLOCK, ())
    assert values_in(metadata.xmp) == {"photoshop:DateCreated": date}
    timed = packet("", 'photoshop:DateCreated="2020-01-02T03:04:05"')
    metadata = exif_times(sidecars=[("a", packet("", f'photoshop:DateCreated="{date}"')), ("b", timed)])
    assert metadata.exif[0x9003] == "2020:01:02 03:04:05" and not metadata.xmp


def test_names_have_the_corrected_time(write_raw, grey_ramp):
    raw = write_raw("a.dng", grey_ramp, exif={0x9003: "2024:05:06 21:30:00"})
    raw.with_suffix(".xmp").write_bytes(packet("", 'exif:DateTimeOriginal="2025-05-06T21:30:00"'))
    assert fill("{date:%Y}_{stem}", raw, "") == "2025_a"


# --- outputs ---


def written(format: str, xmp: bytes, notes=None) -> bytes:
    target = io.BytesIO()
    pixels = np.zeros((8, 8, 3), np.uint8)
    write_picture(
        target, pixels, Metadata(xmp=xmp), format=format, software="s", overwrite=False, notes=notes
    )
    return target.getvalue()


def xmp_in(data: bytes) -> bytes | None:
    """The packet of a picture, without what only newer versions of Pillow know."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    if picture.format == "JPEG":
        head = b"http://ns.adobe.com/xap/1.0/\0"
        found = [body for name, body in picture.applist if name == "APP1" and body.startswith(head)]
        return found[0][len(head) :] if found else None
    if picture.format == "TIFF":
        return picture.tag_v2.get(700)
    text = picture.info.get("XML:com.adobe.xmp")
    return text and text.encode()


@pytest.mark.parametrize("format", ["jpeg", "png", "tiff"])
def test_pictures_carry_it(format):
    xmp = kept(packet(title("Ä")))
    assert xmp_in(written(format, xmp)) == xmp
    assert xmp_in(written(format, b"")) is None


def test_a_tiff_states_it_as_bytes():
    tag = tifffile.TiffFile(io.BytesIO(written("tiff", kept(packet(title("x")))))).pages[0].tags[700]
    assert tag.dtype == 1


@pytest.mark.parametrize("spare", [0, 1])
def test_a_jpeg_drops_the_longest_if_there_is_no_room(spare):
    """A segment has 65,533 bytes, the standard's limit for the packet is 65,502."""
    small = kept(packet(title("x") + keywords("y"), 'xmp:Rating="3"'))
    words = "w" * (65_504 - len(small) + spare)
    whole = kept(packet(title("x") + keywords("y" + words), 'xmp:Rating="3"'))
    assert len(whole) == 65_504 + spare
    notes = []
    found = xmp_in(written("jpeg", whole, notes))
    if spare == 0:
        assert (found, notes) == (whole, [])
        return
    assert names_in(found) == ["xmp:Rating", "dc:title"]
    assert len(notes) == 1 and "dc:subject" in notes[0]
    assert xmp_in(written("png", whole)) == whole


def test_shortened_may_leave_nothing():
    assert shortened(kept(packet(title("x"))), 10) == (b"", ["dc:title"])
    assert shortened(b"", 10) == (b"", [])


# --- sidecar files ---


def test_sidecars_are_found_by_both_names(tmp_path):
    raw = tmp_path / "a.b.nef"
    assert read_sidecars(raw) == ([], [])
    names = ("a.b.nef.xmp", "a.b.nef.XMP", "a.b.xmp", "a.b.XMP")
    for name in names[::3]:
        (tmp_path / name).write_bytes(name.encode())
    found, notes = read_sidecars(raw)
    contents = [data for _, data in found]
    assert list(dict.fromkeys(contents)) == [b"a.b.nef.xmp", b"a.b.XMP"]
    assert notes == []
    assert all(str(tmp_path) in name for name, _ in found)


def test_a_name_too_long_for_a_sidecar_has_none(tmp_path):
    assert read_sidecars(tmp_path / f"{'a' * 251}.nef") == ([], [])


def test_a_sidecar_is_read_once_where_case_does_not_matter(tmp_path):
    (tmp_path / "a.xmp").write_bytes(b"x")
    if not (tmp_path / "a.XMP").exists():
        (tmp_path / "a.XMP").hardlink_to(tmp_path / "a.xmp")
    assert read_sidecars(tmp_path / "a.nef") == ([(str(tmp_path / "a.xmp"), b"x")], [])


def test_a_sidecar_that_cannot_be_read_is_noted(tmp_path):
    (tmp_path / "a.xmp").mkdir()
    found, notes = read_sidecars(tmp_path / "a.nef")
    assert found == []
    assert "a.xmp: cannot be read" in notes[0]


def test_a_raw_is_read_with_its_sidecars(write_raw, grey_ramp, tmp_path):
    raw = write_raw("a.dng", grey_ramp)
    (tmp_path / "a.xmp").write_bytes(packet(title("two") + keywords("k")))
    (tmp_path / "a.dng.xmp").write_bytes(packet(title("one")))
    result = Result(str(raw), "")
    metadata = load(raw, result)[1]
    assert texts(metadata.xmp, "dc:title") == ["one"]
    assert texts(metadata.xmp, "dc:subject") == ["k"]
    (tmp_path / "a.dng.xmp").write_bytes(b"<junk")
    result = Result(str(raw), "")
    assert texts(load(raw, result)[1].xmp, "dc:title") == ["two"]
    assert any("a.dng.xmp: its XMP is damaged" in note for note in result.notes)
    (tmp_path / "a.xmp").unlink()
    (tmp_path / "a.xmp").mkdir()
    result = Result(str(raw), "")
    load(raw, result)
    assert any("a.xmp: cannot be read" in note for note in result.notes)


@pytest.mark.parametrize(("seconds", "same"), [("42.02", True), ("42.05", False)])
def test_a_place_less_than_a_metre_away_is_the_same(seconds, same):
    stated = PLACE.replace("2,17,42W", f"2,17,{seconds}W")
    here = {**THERE, 5: b"\0", 17: 90}
    found = read_metadata(exif_of(gps=here), "a.nef", sidecars=[("a", packet("", stated))]).gps
    assert (found[4] == THERE[4]) == (17 in found) == same


@pytest.mark.parametrize(("height", "same"), [("36.4", True), ("36.6", False)])
def test_a_height_less_than_a_metre_away_is_the_same(height, same):
    stated = PLACE.replace("71/2", height)
    here = {**THERE, 5: b"\0"}
    found = read_metadata(exif_of(gps=here), "a.nef", sidecars=[("a", packet("", stated))]).gps
    assert (found[6] == THERE[6]) == same


@pytest.mark.parametrize(
    ("latitude", "longitude"), [("90,0N", "180,0E"), ("90,0,0S", "180,0,0W"), ("0,0N", "0,0E")]
)
def test_poles_and_the_date_line_are_places(latitude, longitude):
    stated = PLACE.replace("48,51.5S", latitude).replace("2,17,42W", longitude)
    found = read_metadata(exif_of(), "a.nef", sidecars=[("a", packet("", stated))])
    angle, side = latitude.split(",")[0], latitude[-1]
    assert (found.gps[1], found.gps[2], found.notes) == (side, (int(angle), 0, 0), ())


def test_the_time_of_the_fix_outlives_a_corrected_place():
    moment = {7: (21, 30, 5), 29: "2024:05:06"}
    sidecars = [("a.xmp", packet("", PLACE))]
    found = read_metadata(exif_of(gps={**ELSEWHERE, **moment}), "a.nef", sidecars=sidecars).gps
    assert found == {**THERE, **moment}


def test_a_corrected_time_without_a_fraction_leaves_none_of_the_old_one():
    block = Image.Exif()
    block[0x8769] = {**CLOCK, 0x9292: "43"}
    sidecar = packet("", 'exif:DateTimeOriginal="2026-11-22T22:45:10"')
    found = read_metadata(io.BytesIO(block.tobytes()[6:]), "a.nef", sidecars=[("a.xmp", sidecar)])
    assert not found.exif.keys() & {0x9291, 0x9292}


def test_of_dates_without_a_time_of_day_the_first_counts():
    dates = ("2019-05-04", "2018")
    sidecars = [("a.xmp", packet("", f'photoshop:DateCreated="{date}"')) for date in dates]
    assert values_in(kept(b"", sidecars)) == {"photoshop:DateCreated": dates[0]}


def test_settings_of_megabytes_do_not_hide_what_comes_after_them(tmp_path):
    """Adobe's masks."""
    mask = f"<crs:Mask>{'0' * 3_000_000}</crs:Mask>"
    (tmp_path / "a.xmp").write_bytes(packet(mask + title("x")))
    found, notes = read_sidecars(tmp_path / "a.nef")
    assert (texts(kept(b"", found), "dc:title"), notes) == (["x"], [])
    xmp = packet(mask + title("x"))
    ifd = struct.pack("<HHHIII", 1, 700, 1, len(xmp), 26, 0)
    raw = b"II" + struct.pack("<HI", 42, 8) + ifd + xmp
    assert texts(read_metadata(io.BytesIO(raw), "a.nef").xmp, "dc:title") == ["x"]


@pytest.mark.parametrize("contents", [b"", b"\0" * 500, b" \n"])
def test_an_empty_sidecar_is_noted(contents):
    """A full disk leaves such."""
    metadata = read_metadata(exif_of(), "a.nef", sidecars=[("a.xmp", contents)])
    assert metadata.notes == ("a.xmp: is empty; what it said is missing from the picture",)


def test_empty_entries_are_none():
    body = """<dc:description><rdf:Alt>
        <rdf:li xml:lang="x-default"/><rdf:li xml:lang="de">Abend</rdf:li>
        </rdf:Alt></dc:description><dc:creator><rdf:Seq><rdf:li/><rdf:li>A</rdf:li></rdf:Seq></dc:creator>"""
    metadata = read_metadata(exif_of({0x010E: "the camera's"}), "a.nef", sidecars=[("a.xmp", packet(body))])
    assert (metadata.image[0x010E], metadata.image[0x013B]) == ("Abend", "A")
