"""The command ``nuclei``: pictures in, every nucleus by itself out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.session import Command, Session

if TYPE_CHECKING:
    from delineate.formats.instance_package import InstancePackage


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of them")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--model",
        type=Path,
        help="model of instances that `run` trained, a checkpoint of HoVer-Net, or a model of the program by name "
        "(nuclei, nuclei-typed); default: nuclei",
    )
    parser.add_argument("--typed", action="store_true", help="tell the types of nuclei: the model nuclei-typed")
    parser.add_argument(
        "--types",
        type=Path,
        metavar="JSON",
        help='other names of the types, {"1": "inflammatory", ...} or HoVer-Net\'s type_info.json; implies --typed',
    )
    parser.add_argument(
        "--mpp", type=float, metavar="UM", help="micrometres per pixel; without it lengths are told in pixels"
    )
    parser.add_argument(
        "--diameter", type=float, metavar="PX", help="typical diameter of the nuclei in pixels, if it is unusual"
    )
    parser.add_argument(
        "--published-decoding", action="store_true", help="HoVer-Net: the published constants, not the corrected ones"
    )
    parser.add_argument(
        "--channel", type=int, metavar="N", help="the channel that shows the nuclei, from 1; default: grey or colours"
    )
    parser.add_argument("--overwrite", action="store_true", help="segment again what stands in the output folder")
    parser.add_argument(
        "--tta",
        action="store_true",
        help="average over the eight orientations of a picture (test-time augmentation): a little better, and the "
        "network works eight times as long",
    )
    parser.add_argument(
        "--confidence",
        type=float,
        metavar="C",
        help="tell nuclei of which more is expected, 0 to 1; default: what was best on the model's held-out pictures",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))


def _run(session: Session) -> int:
    from delineate.workflows.nuclei_model import open_nuclei_model
    from delineate.workflows.segment_instances import PictureScale
    from delineate.workflows.segment_pictures import segment_pictures

    options = session.options
    scale = PictureScale(pixel_um=options.mpp, diameter=options.diameter)
    model = open_nuclei_model(
        options.model,
        types=options.types,
        typed=options.typed,
        device=options.device,
        precision=options.precision,
        published_decoding=options.published_decoding,
        tta=options.tta,
        confidence=options.confidence,
    )
    if options.mpp is None and options.diameter is None:
        print(f"without --mpp or --diameter {_assumed(model.package)}; lengths are in pixels")
    found = segment_pictures(
        model,
        options.pictures,
        options.out,
        scale=scale,
        channel=options.channel,
        overwrite=options.overwrite,
        **session.watched,
    )
    for picture in found:
        kinds = ", ".join(f"{name} {count}" for name, count in picture.by_type)
        stood = "; it stood there already" if picture.kept else ""
        print(f"{picture.name}: {picture.count} nuclei{' (' + kinds + ')' if kinds else ''}{stood}")
    print(f"label maps, GeoJSON, tables and pictures in {options.out}; counts of all in counts.csv")
    return 0


def _assumed(package: InstancePackage) -> str:
    """Say what is taken for granted of pictures whose pixel size nobody told."""
    pixel = f"pixels are taken to measure {package.pixel_um:g} micrometres, " if package.pixel_um else ""
    return f"{pixel}nuclei to be about {package.typical_pixels / package.zoom:.0f} pixels across, as in the training"


COMMANDS = (Command(name="nuclei", help="find every nucleus of microscope pictures", declare=_options, run=_run),)
