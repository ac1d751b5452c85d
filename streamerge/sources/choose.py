"""From an index to one manifest: by name, digest, position and platform.

image-layout.md, on index.json: it "serves as the entrypoint for references and descriptors of the image-layout";
its manifests may be indexes themselves ("nested index"), of the variants of one image for several platforms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from streamerge.errors import ImageError, show
from streamerge.sources.documents import Descriptor, Index, Platform, decode_document
from streamerge.sources.media import DocumentKind, kind_of
from streamerge.sources.platform import rank, this_machine

__all__ = ["Chooser", "position", "shown_choices"]

MAX_DEPTH = 8
MAX_MANIFESTS = 100_000
_MAX_SHOWN = 20
_UNSAID = 1000
"""The rank of a manifest without a platform: after all that have one."""


@dataclass(frozen=True, slots=True)
class _Match:
    """A manifest that may be meant; the least ``rank`` suits best."""

    rank: int
    descriptor: Descriptor


@dataclass
class Chooser:
    """Chooses among what an index lists. ``load`` gives the document that a descriptor names, verified.

    ``platform`` is None where nobody asked: then this machine's is chosen where there is a choice, and an
    image that is the only one is taken whatever it was built for.
    """

    place: str
    platform: Platform | None
    load: Callable[[Descriptor], bytes]
    _above: list[str] = field(default_factory=list)
    _lacking: set[str] = field(default_factory=set)
    _listed: int = 0

    @property
    def _wanted(self) -> Platform:
        return self.platform if self.platform is not None else this_machine()

    def choose(self, index: Index, which: str) -> Descriptor:
        """The one manifest that a reference means. Raises ImageError, which lists the choices."""
        listed = index.manifests or []
        self._count(listed)
        if not listed:
            raise ImageError(f"{self.place} holds no image: its index is empty")
        meant = _distinct(self._called(listed, which))
        images = [d for d in meant if _may_be_image(d)]
        if not images:
            return meant[0]  # whatever it is, opening it will tell
        if len(images) == 1:
            return self._only(images[0])
        if all(kind_of(d.media_type) is DocumentKind.MANIFEST and d.platform is not None for d in images):
            matches = _best([match for d in images for match in self._manifest(d)])
            images = [match.descriptor for match in matches] or images
            if len(matches) == 1:
                return images[0]
        raise ImageError(f"{self.place} holds several images; {_advice(images, which)}")

    def expand(self, data: bytes, what: str) -> Descriptor:
        """The manifest for the platform in an index of one image's variants."""
        index = decode_document(data, Index, what)
        return self._descend(index.manifests or [], what)

    def _called(self, listed: Sequence[Descriptor], which: str) -> list[Descriptor]:
        if not which:
            return list(listed)
        number = position(which)
        if number is not None:
            if number >= len(listed):
                raise ImageError(f"{self.place} has no image {which}; it lists {len(listed):,}, the first is @0")
            return [listed[number]]
        found = [d for d in listed if which in d.names or which == f"@{d.digest}"]
        if not found:
            wanted = show(which.encode("utf-8", "surrogateescape"))
            raise ImageError(f"{self.place} has no image '{wanted}'; {_advice([*filter(_may_be_image, listed)])}")
        return found

    def _only(self, descriptor: Descriptor) -> Descriptor:
        if kind_of(descriptor.media_type) is not DocumentKind.INDEX:
            return descriptor
        return msgspec.structs.replace(self._descend_into(descriptor), annotations=descriptor.annotations)

    def _descend_into(self, descriptor: Descriptor) -> Descriptor:
        """image-index.md lets indexes nest; a circle, or a depth that no image has, is refused."""
        what = f"the index {descriptor.digest[:200]}"
        if descriptor.digest in self._above:
            raise ImageError(f"{what} in {self.place} contains itself")
        if len(self._above) >= MAX_DEPTH:
            raise ImageError(f"indexes in {self.place} are nested more than {MAX_DEPTH} deep")
        self._above.append(descriptor.digest)
        try:
            return self.expand(self.load(descriptor), f"{what} in {self.place}")
        finally:
            self._above.pop()

    def _descend(self, listed: Sequence[Descriptor], what: str) -> Descriptor:
        self._count(listed)
        images = _distinct([d for d in listed if _may_be_image(d)])
        manifests = [d for d in images if kind_of(d.media_type) is DocumentKind.MANIFEST]
        matches = sorted((match for d in manifests for match in self._manifest(d)), key=lambda match: match.rank)
        if matches and (matches[0].rank < _UNSAID or len(matches) == 1):
            return matches[0].descriptor  # "the first matching entry SHOULD be used"
        if matches:
            raise ImageError(f"{what} lists several images and no platform for them; {_advice(manifests)}")
        return self._descend_further(images, what)

    def _descend_further(self, images: Sequence[Descriptor], what: str) -> Descriptor:
        """No manifest here suits: one of the indexes in this one may hold it."""
        nested = [d for d in images if kind_of(d.media_type) is DocumentKind.INDEX and d.digest not in self._lacking]
        suited = [d for d in nested if d.platform is None or rank(self._wanted, d.platform) is not None]
        for descriptor in suited[:-1]:
            try:
                return self._descend_into(descriptor)
            except NoSuchPlatform:
                self._lacking.add(descriptor.digest)
        if suited:
            return self._descend_into(suited[-1])
        if not images:
            raise ImageError(f"{what} lists no image")
        asked = "" if self.platform is not None else ", which is this machine's; choose one with --platform"
        offered = ", ".join(dict.fromkeys(str(d.platform) for d in images if d.platform is not None))
        raise NoSuchPlatform(f"{what} has no image for {self._wanted}{asked}; it has: {offered}")

    def _manifest(self, descriptor: Descriptor) -> list[_Match]:
        if descriptor.platform is None:
            return [_Match(_UNSAID, descriptor)]
        suits = rank(self._wanted, descriptor.platform)
        return [] if suits is None else [_Match(suits, descriptor)]

    def _count(self, listed: Sequence[Descriptor]) -> None:
        self._listed += len(listed)
        if self._listed > MAX_MANIFESTS:
            raise ImageError(f"{self.place} lists more than {MAX_MANIFESTS:,} manifests")


class NoSuchPlatform(ImageError):
    """An index holds images, but none for the platform; another index may."""


def position(which: str) -> int | None:
    """The N of ``@N``, where that is what a reference says."""
    match = re.fullmatch(r"@([0-9]{1,6})", which)
    return int(match[1]) if match else None


def shown_choices(choices: Sequence[str]) -> str:
    """Choices for a message, no more than can be read."""
    more = len(choices) - _MAX_SHOWN
    text = ", ".join(show(choice[:200].encode("utf-8", "surrogateescape")) for choice in choices[:_MAX_SHOWN])
    return f"{text} and {more:,} more" if more > 0 else text


def _advice(images: Sequence[Descriptor], which: str = "") -> str:
    choices = [_shown(d) for d in images[: _MAX_SHOWN + 1]] + [""] * (len(images) - _MAX_SHOWN - 1)
    if not choices:
        return "it holds no image at all"
    how = "choose by --platform or @DIGEST" if which else "add one to the reference, as in oci:DIR:NAME"
    return f"{how}: {shown_choices(choices)}"


def _shown(descriptor: Descriptor) -> str:
    name = descriptor.names[-1] if descriptor.names else f"@{descriptor.digest}"
    return f"{name} ({descriptor.platform})" if descriptor.platform is not None else name


def _may_be_image(descriptor: Descriptor) -> bool:
    """Leave out what is no image: unknown media types, artifacts, the attestations that BuildKit puts beside images."""
    attestation = descriptor.platform is not None and descriptor.platform.os == "unknown"
    return (
        kind_of(descriptor.media_type) is not DocumentKind.UNKNOWN and not descriptor.artifact_type and not attestation
    )


def _distinct(descriptors: Sequence[Descriptor]) -> list[Descriptor]:
    """One image may have several names; the first counts."""
    first: dict[str, Descriptor] = {}
    for descriptor in descriptors:
        first.setdefault(descriptor.digest, descriptor)
    return list(first.values())


def _best(matches: Sequence[_Match]) -> list[_Match]:
    least = min((match.rank for match in matches), default=0)
    return [match for match in matches if match.rank == least]
