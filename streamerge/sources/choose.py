"""Choose one manifest from an index: by name, digest, number and platform.

image-layout.md, on index.json: it "serves as the entrypoint for references and descriptors of the image-layout".
Its manifests may be indexes themselves ("nested index"), with the variants of one image for several platforms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from streamerge.errors import ImageError
from streamerge.sources.documents import Descriptor, Index, Platform, decode_document
from streamerge.sources.media import DocumentKind, kind_of
from streamerge.sources.names import show_text
from streamerge.sources.platform import rank, this_machine

__all__ = ["Chooser", "NoSuchPlatform", "index_of", "show_choices"]

MAX_DEPTH = 8
MAX_MANIFESTS = 100_000
_MAX_SHOWN = 20
_RANK_WITHOUT_PLATFORM = 1000
"""The rank of a manifest without a platform: after all that have one."""

RefersTo = Callable[[str], object]
"""Returns the reference of an image, given its name or ``@DIGEST``; messages show it."""


class NoSuchPlatform(ImageError):
    """An index holds images, but none for the platform; another index may hold one."""


@dataclass(frozen=True, slots=True)
class _Match:
    """A manifest that fits. The lowest ``rank`` fits best."""

    rank: int
    descriptor: Descriptor


@dataclass
class Chooser:
    """Chooses from the manifests of an index.

    ``name`` is what messages call the store, ``load`` returns the verified document of a descriptor, and ``refers_to``
    is None if a reference cannot name one of several images. If ``platform`` is None, this machine's platform is chosen
    if there is a choice; the only image of a store is taken for any platform.
    """

    name: str
    platform: Platform | None
    load: Callable[[Descriptor], bytes]
    refers_to: RefersTo | None = None
    _open_indexes: list[str] = field(default_factory=list)
    _without_platform: set[str] = field(default_factory=set)
    _manifests_seen: int = 0

    @property
    def _wanted(self) -> Platform:
        return self.platform if self.platform is not None else this_machine()

    def choose(self, index: Index, which: str | None) -> Descriptor:
        """Return the manifest that a reference names. Raises ImageError, which lists the choices."""
        listed = index.manifests or []
        self._count(listed)
        if not listed:
            raise ImageError(f"{self.name} holds no image: its index is empty")
        named = _distinct(self._named(listed, which) if which is not None else listed)
        images = [descriptor for descriptor in named if _may_be_image(descriptor)]
        if not images:
            return named[0]  # opening it raises an error that says what it is
        if len(images) == 1:
            return self._only(images[0])
        if all(kind_of(d.media_type) is DocumentKind.MANIFEST and d.platform is not None for d in images):
            best = _best([match for d in images for match in self._match(d)])
            if len(best) == 1:
                return best[0].descriptor
            images = [match.descriptor for match in best] or images
        raise self._ambiguous(images, which)

    def expand(self, data: bytes, what: str) -> Descriptor:
        """Return the manifest for the platform from an index of one image's variants."""
        index = decode_document(data, Index, what)
        return self._descend(index.manifests or [], what)

    # -- the index of the store --------------------------------------------------------------------

    def _named(self, listed: Sequence[Descriptor], which: str) -> list[Descriptor]:
        number = index_of(which)
        if number is not None:
            if number >= len(listed):
                count = "1 image" if len(listed) == 1 else f"{len(listed):,} images"
                raise ImageError(f"{self.name} has no image {which}: it lists {count}, the first is @0")
            return [listed[number]]
        found = [descriptor for descriptor in listed if which in descriptor.names or which == f"@{descriptor.digest}"]
        if not found:
            images = [descriptor for descriptor in listed if _may_be_image(descriptor)]
            fix = f"name one of these: {self._choices(images)}" if images else "it holds no image at all"
            raise ImageError(f"{self.name} has no image '{show_text(which)}'; {fix}")
        return found

    def _only(self, descriptor: Descriptor) -> Descriptor:
        if kind_of(descriptor.media_type) is not DocumentKind.INDEX:
            return descriptor
        return msgspec.structs.replace(self._descend_into(descriptor), annotations=descriptor.annotations)

    def _ambiguous(self, images: Sequence[Descriptor], which: str | None) -> ImageError:
        may_differ = self.platform is None and any(descriptor.platform is not None for descriptor in images)
        named = f" named '{show_text(which)}'" if which is not None else ""
        problem = f"{self.name} holds {len(images):,} images{named}; name one: {self._choices(images)}"
        return ImageError(problem, setting="platform" if may_differ else None)

    # -- indexes of one image's variants -----------------------------------------------------------

    def _descend_into(self, descriptor: Descriptor) -> Descriptor:
        """Load an index and choose from it. Indexes may be nested (image-index.md), but not in a loop or too deeply."""
        what = f"the index {descriptor.digest[:200]}"
        if descriptor.digest in self._open_indexes:
            raise ImageError(f"{what} in {self.name} contains itself")
        if len(self._open_indexes) >= MAX_DEPTH:
            raise ImageError(f"indexes in {self.name} are nested more than {MAX_DEPTH} deep")
        self._open_indexes.append(descriptor.digest)
        try:
            return self.expand(self.load(descriptor), f"{what} in {self.name}")
        finally:
            self._open_indexes.pop()

    def _descend(self, listed: Sequence[Descriptor], what: str) -> Descriptor:
        self._count(listed)
        images = _distinct([descriptor for descriptor in listed if _may_be_image(descriptor)])
        manifests = [descriptor for descriptor in images if kind_of(descriptor.media_type) is DocumentKind.MANIFEST]
        matches = sorted((match for d in manifests for match in self._match(d)), key=lambda match: match.rank)
        if matches and (matches[0].rank < _RANK_WITHOUT_PLATFORM or len(matches) == 1):
            return matches[0].descriptor  # "the first matching entry SHOULD be used"
        if matches:
            fix = "" if self.refers_to is None else f"; name one: {self._choices(manifests)}"
            raise ImageError(f"{what} lists {len(manifests):,} images and does not say for which platforms{fix}")
        return self._descend_further(images, what)

    def _descend_further(self, images: Sequence[Descriptor], what: str) -> Descriptor:
        """Look in the nested indexes, because no manifest in this index fits."""
        indexes = [descriptor for descriptor in images if kind_of(descriptor.media_type) is DocumentKind.INDEX]
        candidates = [descriptor for descriptor in indexes if self._may_hold_platform(descriptor)]
        for descriptor in candidates[:-1]:
            try:
                return self._descend_into(descriptor)
            except NoSuchPlatform:
                self._without_platform.add(descriptor.digest)
        if candidates:
            return self._descend_into(candidates[-1])
        if not images:
            raise ImageError(f"{what} lists no image")
        raise self._no_such_platform(images, what)

    def _may_hold_platform(self, index: Descriptor) -> bool:
        if index.digest in self._without_platform:
            return False
        return index.platform is None or rank(self._wanted, index.platform) is not None

    def _no_such_platform(self, images: Sequence[Descriptor], what: str) -> NoSuchPlatform:
        offered = ", ".join(dict.fromkeys(str(d.platform) for d in images if d.platform is not None))
        if self.platform is not None:
            return NoSuchPlatform(f"{what} has no image for {self._wanted}; it has: {offered}")
        problem = f"{what} has no image for this machine's platform, {self._wanted}; it has: {offered}"
        return NoSuchPlatform(problem, setting="platform")

    # -- both --------------------------------------------------------------------------------------

    def _match(self, descriptor: Descriptor) -> list[_Match]:
        if descriptor.platform is None:
            return [_Match(_RANK_WITHOUT_PLATFORM, descriptor)]
        found = rank(self._wanted, descriptor.platform)
        return [] if found is None else [_Match(found, descriptor)]

    def _choices(self, images: Sequence[Descriptor]) -> str:
        """Return the references of images: by name if no other image has the same one, else by digest."""
        uses = Counter(descriptor.names[-1] for descriptor in images if descriptor.names)
        choices = []
        for descriptor in images[:_MAX_SHOWN]:
            name = descriptor.names[-1] if descriptor.names else None
            which = name if name is not None and uses[name] == 1 else f"@{descriptor.digest}"
            choice = which if self.refers_to is None else str(self.refers_to(which))
            choices.append(f"{choice} ({descriptor.platform})" if descriptor.platform is not None else choice)
        return show_choices(choices, len(images))

    def _count(self, listed: Sequence[Descriptor]) -> None:
        self._manifests_seen += len(listed)
        if self._manifests_seen > MAX_MANIFESTS:
            raise ImageError(f"{self.name} lists more than {MAX_MANIFESTS:,} manifests")


def index_of(which: str) -> int | None:
    """Return the N of ``@N``; None for a name or a digest."""
    match = re.fullmatch(r"@([0-9]{1,6})", which)
    return int(match[1]) if match else None


def show_choices(choices: Sequence[str], count: int | None = None) -> str:
    """Return choices for a message: at most 20, and how many more there are of ``count`` in all."""
    more = (count if count is not None else len(choices)) - _MAX_SHOWN
    text = ", ".join(show_text(choice) for choice in choices[:_MAX_SHOWN])
    return f"{text} and {more:,} more" if more > 0 else text


def _may_be_image(descriptor: Descriptor) -> bool:
    """Return False for unknown media types, artifacts, and the attestations that BuildKit adds to images."""
    attestation = descriptor.platform is not None and descriptor.platform.os == "unknown"
    return (
        kind_of(descriptor.media_type) is not DocumentKind.UNKNOWN and not descriptor.artifact_type and not attestation
    )


def _distinct(descriptors: Sequence[Descriptor]) -> list[Descriptor]:
    """Return each image once: one image may have several names, of which the first counts."""
    first: dict[str, Descriptor] = {}
    for descriptor in descriptors:
        first.setdefault(descriptor.digest, descriptor)
    return list(first.values())


def _best(matches: Sequence[_Match]) -> list[_Match]:
    lowest = min((match.rank for match in matches), default=0)
    return [match for match in matches if match.rank == lowest]
