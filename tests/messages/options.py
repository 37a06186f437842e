"""Messages about options, of the command line and of Python."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from distributed.client import FutureCancelledError

import csscc
from csscc.io.images import ImageOptions, read_images
from csscc.measure.plots import bars
from csscc.search.journal import Journal
from csscc.search.plots import plot, plot_front
from csscc.search.settings import Row, grid
from csscc.search.sweep import Job, _fingerprint, sweep
from csscc.search.tune import tune
from csscc.search.workers import _result
from tests.helpers import parse
from tests.messages.given import Messages, X, calibrated, compiled, damaged, missing, run

FREE = """g (float[N,3,W] x) => (float[N,2,V] y) <float[2,3,1] w, float[2,2,1] v>
{ a = Conv(x, w) r = Relu(a) y = Conv(r, v) }"""
TUNE = "csscc tune ann.onnx --calibration x.npy --max-loss 1"

MESSAGES: Messages = {
    "preset 'fast' is not known; choose one of default, paper": lambda p: compiled(preset="fast"),
    "coding 'burst' is not known; choose one of css, rate, fs, ttfs, tsc": lambda p: compiled(coding="burst"),
    "coding 'rate' (all spikes have the same weight) has no amplification, so beta is 1, not 2": lambda p:
        compiled(coding="rate", beta=2),
    "method 'Max' is not known; choose one of auto, percentile, max, mse, entropy": lambda p: compiled(method="Max"),
    "there is no option 'methd'; did you mean 'method'?": lambda p: compiled(methd="max"),
    "there is no option 't'; did you mean 'T'?": lambda p: compiled(t=4),
    "T takes a whole number, not '4'": lambda p: compiled(T="4"),
    "silent takes a whole number or 'auto', not '2'": lambda p: compiled(silent="2"),
    "beta takes a number, not True": lambda p: compiled(beta=True),
    "per_channel takes True or False, not 'no'": lambda p: compiled(per_channel="no"),
    "runtime 'nump' is not known; choose one of onnxruntime, numpy": lambda p:
        csscc.load("snn.onnx").run(X, runtime="nump"),
    "a network is the path of an ONNX file or an onnx.ModelProto, not dict; export it first: csscc.pytorch.export for "
    "modules of PyTorch, skl2onnx.to_onnx for scikit-learn, others in docs/frameworks.md": lambda p:
        csscc.compile({}, X),
    "the networks are in the wrong order: the ANN comes first, then the spiking network": lambda p:
        csscc.evaluate("snn.onnx", "ann.onnx", X),
    "form 'loop' is not known; choose one of auto, ...": lambda p: compiled(form="loop"),
    "form 'stream' runs step by step and cannot wait for analog activations; choose another": lambda p:
        compiled(analog=("Relu_1",), form="stream"),
    "'a' is no layer of neurons, so it cannot be left analog; there are Relu_1": lambda p:
        compiled(analog=("a",)),
    "Got unexpected extra argument (x.npy). Here samples are given by --calibration.": lambda p:
        run("csscc compile ann.onnx x.npy -o s.onnx"),
    "No such option '--calibration'. Here samples are given by --data.": lambda p:
        run("csscc verify snn.onnx --calibration x.npy"),
    "--image-size is for folders of images, and x.npy is none: prepare arrays as the network expects them; leave "
    "--image-size out": lambda p:
        run("csscc compile ann.onnx --calibration x.npy --image-size 8 --scale 1 -o s.onnx"),
    "--scale is for folders of images, and none is given; leave --scale out": lambda p:
        run("csscc compile ann.onnx --scale 1 -o s.onnx"),
    "No such option '--steps'. Did you mean '--T'?": lambda p: run("csscc compile ann.onnx --steps 4 -o s.onnx"),
    "No such option '--max-loss'. It is an option of evaluate and tune.": lambda p:
        run("csscc sweep ann.onnx --data x.npz --max-loss 1 -o folder"),
    "--allow-analog needs a loss to stay below; give one with --max-drop": lambda p:
        run("csscc compile ann.onnx --allow-analog -o s.onnx"),
    "--max-drop is measured on samples: give some with --calibration, best with labels (y)": lambda p:
        run("csscc compile ann.onnx --max-drop 1 -o s.onnx"),
    "--dump-ir shows one compilation, and --max-drop may take several; leave one of them out": lambda p:
        run("csscc compile ann.onnx --calibration x.npy --max-drop 1 --dump-ir d -o s.onnx"),
    "calibration samples must be at least 1, not 0": lambda p: compiled(calibration_samples=0),
    "the seed must be 0 or more, not -1": lambda p: compiled(seed=-1),
    "the percentile must lie between 50 and 100, not 5": lambda p: compiled(percentile=5),
    "beta must be from 1 (rate coding) to 5, not 6; 1.5 to 4 are usual": lambda p: compiled(beta=6),
    "a beta above 3, such as 4, needs bursts and negative spikes, and a T of at most 7, not 8": lambda p:
        compiled(T=8, beta=4),
    "T must be a whole number from 1 to 64, not 0; 4 to 16 are usual": lambda p: compiled(T=0),
    "where time is the value a layer waits for all T=32 steps; leave --silent out": lambda p:
        compiled(coding="ttfs", silent=1),
    "temporal switch coding ends a value by a spike of the other sign; leave --no-negative out": lambda p:
        compiled(coding="tsc", negative=False),
    "silent steps must be from 0 to 4 (T), not 9; 1 is usual": lambda p: compiled(T=4, silent=9),
    "the network was calibrated with another seed; calibrate it again": lambda p: csscc.compile(calibrated(), seed=5),
    "the network is calibrated already; give the model itself to calibrate it with other data": lambda p:
        csscc.compile(calibrated(), X),
    "sizes of the network's input 'x' are free: state those to calibrate with and to count for, "
    "--input-shape x:1,3,W, or pass samples of the size that matters with --calibration. The spiking "
    "network leaves them free too": lambda p: csscc.compile(parse(FREE)),
    "--input-shape: the network has no input 'z'; it has x": lambda p:
        csscc.compile(parse(FREE), input_shape={"z": (1, 2, 5)}),
    "--input-shape: 'x' takes N,3,W, not 1,2,5": lambda p: csscc.compile(parse(FREE), input_shape={"x": (1, 2, 5)}),
    "tuning needs samples to measure on; pass --calibration": lambda p: tune("ann.onnx", None, max_loss=1),
    "'speed' is not known here; choose one of steps, latency, interval, time, spikes, synops": lambda p:
        tune("ann.onnx", X, max_loss=1, objective="speed"),
    "a front is of two quantities, one of them a cost: latency,loss or steps,latency": lambda p:
        tune("ann.onnx", X, max_loss=1, front=("loss", "error")),
    "the loss that is allowed must be a finite number, not inf": lambda p: tune("ann.onnx", X, max_loss=float("inf")),
    "preprocessing 'resnet' is not known; choose one of none, imagenet, caffe, inception": lambda p:
        ImageOptions.preset("resnet"),
    "snn.onnx: is a spiking network, which has settings of its own; leave --T out": lambda p:
        run("csscc inspect snn.onnx --T 4"),
    "the images' mean has 3 numbers, but must have 1": lambda p: ImageOptions.preset("imagenet", channel_order="GRAY"),
    "the images' mean has 2 numbers, but must have 1 or 3": lambda p: ImageOptions(mean=(1.0, 2.0)),
    "the images' std divides the pixels, so it must not be 0": lambda p: ImageOptions(std=(0.0,)),
    "the size of images must be at least 1, not 0": lambda p: ImageOptions(size=0),
    "samples of type int: pass an array, a dict of arrays, an iterable, or a path": lambda p:
        csscc.compile("ann.onnx", 5),
    "Invalid value for '--beta': 'two' is not a number; give one such as 1.5": lambda p:
        run("csscc compile ann.onnx -o s.onnx --beta two"),
    "Invalid value for '--beta': 'nan' is not a finite number; give one such as 1.5": lambda p:
        run("csscc compile ann.onnx -o s.onnx --beta nan"),
    "Invalid value for '--max-loss': -1 is less than 0; give 0 or more": lambda p:
        run("csscc tune ann.onnx --calibration x.npy --max-loss -1 -o s.onnx"),
    "the loss of 12.5 percent of samples that change class exceeds the budget "
    "of 1; csscc diagnose names its cause": lambda p:
        run("csscc evaluate ann.onnx snn.onnx --data x.npy --max-loss 1"),
    "Invalid value for '--input-shape': 'x' is not of the form x:1,3,224,224, the input's name and its "
    "sizes": lambda p: run("csscc compile ann.onnx -o s.onnx --input-shape x"),
    "Invalid value for --mean: 'a,b' is not a list of numbers such as 0.5,0.5,0.5": lambda p:
        run("csscc compile ann.onnx -o s.onnx --mean a,b"),
    "Invalid value for '--T': 'a' is not a list of whole numbers such as 4,6,8": lambda p:
        run("csscc sweep ann.onnx --data x.npy --T a -o f"),
    "Invalid value for '--silent': 'a' is neither auto nor a whole number; give one such as 1": lambda p:
        run("csscc sweep ann.onnx --data x.npy --silent a -o s"),
    "Invalid value for '--beta': 'a' is not a list of numbers such as 1.5,2": lambda p:
        run("csscc sweep ann.onnx --data x.npy --beta a -o f"),
    "Invalid value for '--front': 'speed' is not two of steps, latency, interval, time, spikes, synops, "
    "loss, error, as in latency,loss": lambda p: run(TUNE + " --front speed -o s.onnx"),
    "ann.onnx: would replace what is read, ann.onnx; give another path to write": lambda p:
        run("csscc compile ann.onnx -o ann.onnx"),
    "r.pdf: a report is an HTML page, which a browser prints as PDF; give a name that ends in .html": lambda p:
        run("csscc report ann.onnx snn.onnx --data x.npy -o r.pdf"),
    "o.npy: outputs are written by name, as NumPy archive; give a name that ends in .npz": lambda p:
        run("csscc run snn.onnx --data x.npy -o o.npy"),
    ".: would replace the network that is read, 01-load.onnx; give another folder": lambda p:
        run(f"csscc compile {damaged(str, name='01-load.onnx')} -o s.onnx --dump-ir ."),
    "Invalid value for --plot: the picture would replace the network; give another path": lambda p:
        run(TUNE + " --plot s.png -o s.png"),
    "f: is not empty; give a new folder for the networks of the front": lambda p:
        (Path("f").mkdir(), Path("f/a").touch(), run(TUNE + " --front latency,loss --all f -o s.onnx")),
    "s.onnx: is another file of this command; give another path to --journal": lambda p:
        run(TUNE + " --journal s.onnx -o s.onnx"),
    "x.npy: would replace what is read, x.npy; give another path to write": lambda p:
        run(TUNE + " --journal x.npy -o s.onnx"),
    "xy.npz: is no journal of a search; give another path to --journal": lambda p:
        run(TUNE + " --journal xy.npz -o s.onnx"),
    "a generator can be read once, a sweep reads data often: pass the function that makes it": lambda p:
        sweep(Job("ann.onnx", iter([X]), X), grid([4]), Path("f")),
    "'here' is no address of a scheduler such as tcp://host:8786": lambda p:
        run("csscc sweep ann.onnx --data x.npy --T 4,5 --jobs 2 --scheduler here -o f"),
    "tcp://[::1]:1: no scheduler answers; start one with: dask scheduler, and workers with: dask worker "
    "tcp://[::1]:1": lambda p:
        (
            p.setattr("csscc.search.workers.CONNECTS", 0.1),
            run("csscc sweep ann.onnx --data x.npy --scheduler tcp://[::1]:1 -o f"),
        ),
    "several jobs need a model and data that are paths or arrays (...)": lambda p:
        sweep(Job("ann.onnx", lambda: iter([X]), X), grid([4]), Path("f"), jobs=2),
    "several jobs need Dask: pip install 'csscc[distributed]'": lambda p:
        missing(p, "distributed", lambda: run("csscc sweep ann.onnx --data x.npy --T 4,5 --jobs 2 -o f")),
    "plots need matplotlib: pip install 'csscc[plots]', then run the same command again; nothing that is "
    "done is done twice": lambda p: missing(p, "matplotlib", lambda: plot([Row(grid([4])[0])], Path("f"))),
    "plot() needs matplotlib: pip install 'csscc[plots]'": lambda p:
        missing(p, "matplotlib", lambda: bars([], {}, "", None)),
    "to_pandas() needs pandas: pip install 'csscc[pandas]'": lambda p:
        missing(p, "pandas", lambda: csscc.load("snn.onnx").to_pandas()),
    "reading images needs Pillow: pip install 'csscc[images]'": lambda p:
        missing(p, "PIL", lambda: list(read_images([Path("a.png")], ImageOptions(), 1))),
    "a report needs plotly and jinja2: pip install 'csscc[report]'": lambda p:
        (
            p.setattr("csscc.report.find_spec", lambda name: None),
            run("csscc report ann.onnx snn.onnx --data x.npy -o r.html"),
        ),
    "the workers find another model, other data or another version of csscc than this machine": lambda p:
        _fingerprint(Job("ann.onnx", X), SimpleNamespace(call=lambda function: {})),
    "f/settings.jsonl: holds results of another sweep or search, with other data; give a new "
    "folder, or a new file to --journal": lambda p:
        (sweep(Job("ann.onnx", X), grid([4]), "f"), sweep(Job("ann.onnx", 2 * X), grid([4]), "f")),
    "front.pdf: plots are .png or .svg; give such a name": lambda p: plot_front(SimpleNamespace(), "front.pdf"),
    "f.png: plots need matplotlib: pip install 'csscc[plots]'": lambda p:
        (
            p.setattr("csscc.search.plots.find_spec", lambda name: None),
            run("csscc tune ann.onnx --calibration x.npy --max-loss 1 --plot f.png -o s.onnx"),
        ),
    "several processes were ended from outside, perhaps for lack of memory; finished settings of a sweep "
    "are kept: run the same command again, with fewer jobs": lambda p:
        _result(SimpleNamespace(result=lambda: (_ for _ in ()).throw(FutureCancelledError("k", "gone")))),
    "no setting could be measured: no memory": lambda p:
        (
            p.setattr("csscc.search.sweep.Job.do", lambda *a: Row(grid([4])[0], error="no memory")),
            run("csscc sweep ann.onnx --data x.npy --T 4 -o f"),
        ),
    "x.npy/j: cannot be written (File exists); give another folder": lambda p:
        Journal(Path("x.npy/j"), {}, Row.from_dict).append(Row(grid([4])[0])),
}
