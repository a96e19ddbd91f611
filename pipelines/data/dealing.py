"""Dealing new people out to the splits of the photos, balanced by mood.

People who have a split keep it. New people with nearly identical pictures stay together, and follow their pictures: a
person with a picture that a split has already goes to that split. All others are dealt out, those with the most photos
first, each to the split that brings the moods nearest to the wanted shares. Training therefore takes the people with
many photos, so that no single person dominates a metric on validation or test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipelines.data import near_duplicates
from pipelines.data.splits import SPLITS
from pipelines.params import PhotoSplits
from service.moods import MOODS

_NEVER_ZERO: Final = 1e-9


@dataclass(frozen=True)
class Pictures:
    """Face crops and to whom or what they belong.

    Attributes:
        pixels: Grey crops, uint8 (n, size, size).
        owners: For photos the person in each, for other pictures the name of their split, (n,).
    """

    pixels: NDArray[np.uint8]
    owners: NDArray[np.str_]


@dataclass(frozen=True)
class Bonds:
    """What keeps new people from being dealt out one by one.

    Attributes:
        group: Group of each new person with a face; its members share pictures.
        split: Split that has a picture of a group already, by group. The first of `SPLITS` if several have.
    """

    group: Mapping[str, str]
    split: Mapping[str, str]


def bonds(photos: Pictures, others: Pictures, assigned: Mapping[str, str], threshold: float) -> Bonds:
    """Find the new people who share pictures with each other or with a split.

    Args:
        photos: Faces of the photos.
        others: Faces whose splits are fixed.
        assigned: Splits of the people who have one.
        threshold: Correlation from which two faces are the same picture.
    """
    splits = np.array([assigned.get(person, "") for person in photos.owners], dtype="<U10")
    new = splits == ""
    if not new.any():
        return Bonds({}, {})
    pixels, owners = photos.pixels[new], photos.owners[new]
    people, codes = np.unique(owners, return_inverse=True)
    one, other = near_duplicates.pairs(pixels, threshold)
    links = coo_matrix((np.ones(len(one)), (codes[one], codes[other])), shape=(len(people), len(people)))
    _, components = connected_components(links, directed=False)
    first = np.unique(components, return_index=True)[1]  # of the people, who are sorted
    group = dict(zip(people.tolist(), people[first[components]].tolist(), strict=True))
    found: dict[str, str] = {}
    for name in reversed(SPLITS):
        known = np.concatenate([photos.pixels[splits == name], others.pixels[others.owners == name]])
        for person in owners[near_duplicates.duplicated_in(pixels, known, threshold)]:
            found[group[str(person)]] = name
    return Bonds(group, found)


def deal(
    persons: NDArray[np.str_], moods: NDArray[np.int8], assigned: Mapping[str, str], shares: PhotoSplits, bound: Bonds
) -> dict[str, str]:
    """Assign the people who have no split yet.

    A group goes to the split for which the chi-square distance between the new photos, by split and mood, and the
    wanted shares of them is smallest. The imbalance before counts too, but for no more than an average group:
    without it, people who come one at a time would all train; with all of it, a mood that test lacks would go to test
    alone, and training would have nothing of it.

    Args:
        persons: The person in each photo, (n,).
        moods: Indices in `MOODS`, int8 (n,).
        assigned: Splits of the people who have one; nobody's is changed.
        shares: Wanted shares of the splits.
        bound: Groups, and the splits to which some of them belong.

    Returns:
        The splits of all people, those of `assigned` first.
    """
    people, counts = dict(assigned), {person: np.zeros(len(MOODS)) for person in np.unique(persons).tolist()}
    for person, mood in zip(persons.tolist(), moods, strict=True):
        counts[person][mood] += 1
    held = np.zeros((len(SPLITS), len(MOODS)))
    groups: dict[str, list[str]] = {}
    for person, photos in counts.items():
        if person in people:
            held[SPLITS.index(people[person])] += photos
        else:
            groups.setdefault(bound.group.get(person, person), []).append(person)
    if not groups:
        return people
    sizes = {group: np.sum([counts[person] for person in members], axis=0) for group, members in groups.items()}
    wanted = np.array([[1 - shares.validation - shares.test], [shares.validation], [shares.test]])
    average = np.mean(list(sizes.values()), axis=0)
    taken = (held - wanted * held.sum(axis=0)).clip(-average, average)
    expected = np.maximum(wanted * average * len(groups), _NEVER_ZERO)
    for group in sorted(groups, key=lambda name: (name not in bound.split, -sizes[name].sum(), name)):
        added = sizes[group]
        distances = (added * (2 * (taken - expected) + added) / expected).sum(axis=1)
        split = bound.split.get(group, SPLITS[int(distances.argmin())])
        taken[SPLITS.index(split)] += added
        people.update(dict.fromkeys(groups[group], split))
    return people
