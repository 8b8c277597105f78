"""``delineate convert-bids``: a BIDS folder becomes a dataset that can be trained on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.session import Command, Session
from delineate.errors import UsageError

if TYPE_CHECKING:
    from delineate.formats.datasets.bids import MaskSource


RESERVED = ("background", "ignore")
"""Names that a dataset's declaration uses itself."""


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="BIDS folder, with dataset_description.json")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the new dataset, in nnU-Net's layout")
    parser.add_argument(
        "--mask",
        action="append",
        required=True,
        metavar="NAME=ENDING",
        help="structure and the end of its mask's file name: cord=seg-manual; of a label map with value: liver=dseg:3",
    )
    parser.add_argument("--suffix", action="append", default=[], metavar="T1w", help="images; several become channels")
    parser.add_argument(
        "--derivative", default="labels", help="folder below derivatives with the masks; default labels"
    )
    parser.add_argument(
        "--order", nargs="+", default=[], metavar="NAME", help="where masks overlap, the last one named takes the voxel"
    )
    parser.add_argument("--leave-out-unmasked", action="store_true", help="leave out images without any of the masks")
    parser.add_argument("--hard-link", action="store_true", help="link images instead of copying them where possible")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="cases worked on at a time; default 2")


def _run(session: Session) -> int:
    from delineate.workflows.convert_bids import BidsWish, convert_bids

    options = session.options
    wish = BidsWish(
        sources=_sources(options.mask),
        suffixes=tuple(options.suffix),
        derivative=options.derivative,
        leave_out_unmasked=options.leave_out_unmasked,
    )
    done = convert_bids(
        options.folder,
        options.out,
        wish,
        order=options.order,
        hard_link=options.hard_link,
        workers=options.jobs,
        **session.watched,
    )
    cases = done.dataset.training
    print(f"{len(cases)} cases of {len({case.patient_id for case in cases})} patients in {options.out}")
    print("labels  " + ", ".join(f"{s.name} {list(s.values)}" for s in done.dataset.scheme.structures))
    print(f"table   {options.out / 'cases.csv'} ({', '.join(('case', 'patient', *done.columns))})")
    if done.left_out:
        print(f"left out, no mask: {', '.join(done.left_out)}")
    print("\n".join(done.strays), end="\n" if done.strays else "")
    return 0


def _sources(words: list[str]) -> tuple[MaskSource, ...]:
    from delineate.workflows.convert_bids import MaskSource

    sources = []
    for word in words:
        name, _, rest = word.partition("=")
        ending, _, value = rest.partition(":")
        if not name or not ending or (":" in rest and not value.isdigit()):
            raise UsageError(f"--mask takes NAME=ENDING or NAME=ENDING:VALUE, such as cord=seg-manual; got '{word}'.")
        sources.append(MaskSource(structure=name, ending=ending, value=int(value) if value else None))
    if reserved := [source.structure for source in sources if source.structure.casefold() in RESERVED]:
        raise UsageError(f"--mask cannot call a structure {', '.join(reserved)}: the name has a meaning of its own.")
    if len({source.structure for source in sources}) != len(sources):
        raise UsageError(f"--mask needs a different name for every structure; got {' '.join(words)}.")
    return tuple(sources)


COMMANDS = (
    Command(name="convert-bids", help="make a dataset of a BIDS folder and its masks", declare=_options, run=_run),
)
