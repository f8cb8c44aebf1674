"""The base configuration: every option, its unit and its default.

    python -m train.main --config configs/base.py

trains the `small` network on the photographs packaged with scikit-image and scikit-learn,
darkened on the fly, in a few minutes on two CPU cores. Any option is changed on the command
line: `--config.train.steps=5000`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Every option there is; locked, so that a misspelt key fails and says what was meant."""
    config = ConfigDict()
    config.run_dir = "runs/base"  # folder for everything the run writes; must be new, or resume
    config.resume = False  # go on from the newest checkpoint in run_dir
    config.seed = 0  # of the weights, the batches and every draw

    config.model = ConfigDict()
    config.model.variant = "small"  # a name in pdn_jax.model.VARIANTS
    config.model.change = ()  # the network's (keyword, value) that differ from the variant's
    config.model.dtype = "float32"  # of the network's layers: float32 or bfloat16
    config.model.weights = ""  # to start from: tiny, small, base, a file or run; '' for random

    config.data = ConfigDict()
    config.data.directory = ""  # folder of built data sets; '' for TFDS's own
    config.data.sources = ()  # to prepare first: (paired, brackets or photos; name; folder)
    config.data.mixture = ()  # of (name or name/split, weight); () for sources, or packaged
    config.data.crop_size = 128  # pixels a side of a training crop; a multiple of 8
    config.data.final_size = 0  # crop_size of the last part, in batches of as many pixels; or 0
    config.data.final_fraction = 0.25  # how much of the training that last part is
    config.data.smallest_crop = 0.3  # a crop's least side, part of the photograph's shorter side
    config.data.between = 3  # real exposures between a bracket's ends, as stage targets
    config.data.threads = 2  # host threads that crop ahead, in each process
    config.data.workers = 0  # host processes that crop ahead; 0 for threads of this one
    config.data.groups = 1  # parts of the data, place p of a batch takes from part p mod groups
    config.data.cache = 2.0  # GiB of decoded images held, over all workers of a process
    config.data.jpeg = 0.0  # part of the dark crops that go through a JPEG, on the host
    config.data.jpeg_quality = (40, 95)  # range of its quality, 1 to 95
    config.data.physics = ""  # json of calibrate_camera: draw as its pairs, know their physics
    config.data.truths = -1  # so many pairs of each set of pairs keep their truth; -1 for all
    config.data.untold = 0.0  # with truths: part of their crops that is of the others, dark alone
    config.data.shift = (0, 0)  # range of pixels by which truths of pairs are beside their place
    config.data.misexposed = 0.0  # stops, + or −, by which truths of pairs are wrong in light
    config.data.fitted = True  # with physics: real pairs have a negative direction by their own
    config.data.wide = 0.0  # with physics: part drawn from the ranges below all the same
    config.data.brightness = (3.0, 80.0)  # range of the dark mean before its cast, of 255
    config.data.snr = (5.0, 28.0)  # range of mid-grey's SNR after brightening, dB
    config.data.cast = 0.1  # standard deviation of ln channel gain
    config.data.veil = 0.05  # black offset, at most this part of the mean dark light
    config.data.tone = 0.1  # standard deviation of ln gamma of the dark frame
    config.data.field = 0.2  # standard deviation of the log-illumination's coefficients
    config.data.grain = 0.0  # most that drawn noise is smeared over neighbours, as cameras do
    config.data.scene = ()  # import paths of steps before the exposure: 'my_lab.steps:haze'

    config.augment = ConfigDict()
    config.augment.probability = 0.0  # that a real dark photograph is re-exposed
    config.augment.stops = 1.0  # re-exposure: so much darker or brighter at most, in linear light
    config.augment.cast = 0.1  # re-exposure: standard deviation of ln channel gain
    config.augment.snr = (15.0, 40.0)  # re-exposure: range of the added SNR, dB
    config.augment.scaled = 0.0  # part of the real pairs' crops taken at another scale
    config.augment.enlarged = 0.75  # least side of those before scaling, part of crop_size
    config.augment.identity = 0.0  # part of all crops seen as they are: restraint
    config.augment.mild = 0.0  # part of all crops whose truth is darkened a little only
    config.augment.mild_stops = (0.0, 1.5)  # mild: range of the darkening, stops of linear light
    config.augment.mild_snr = (18.0, 42.0)  # mild: range of mid-grey's SNR, dB
    config.augment.mild_cast = 0.03  # mild: standard deviation of ln channel gain
    config.augment.bars = 0.0  # part of all crops with black bars, a tenth of them all black

    config.loss = ConfigDict()
    config.loss.distance = "charbonnier"  # rho: charbonnier, l1 or an import path
    config.loss.extra = ()  # terms of one's own, ('my_lab.terms:edges', weight), or several
    config.loss.structure = 0.5  # weight of 1 - SSIM
    config.loss.blind = 0.0  # share of rho and of structure that one gain cannot change
    config.loss.stages = 0.2  # weight of the enhancement stages, shared among them
    config.loss.levels = 0.2  # weight of the denoising levels short of the last, shared
    config.loss.noise = 0.002  # weight of the error of the estimated ln noise
    config.loss.blur = 4.0  # sigma of the stages' low-pass, pixels
    config.loss.negative = "whitened"  # whitened, likelihood or an import path
    config.loss.pyramid = 4  # levels of the negative direction's pyramid
    config.loss.finest = 0  # the first level that counts, of block means of 2^finest; 0 for pixels
    config.loss.correlation = 0.0  # whitened: of the noise between neighbours, below 0.7
    config.loss.floor = "truth"  # the hinge: what the truth leaves, or noise leaves in the mean
    config.loss.balance = "gradient_ratio"  # or fixed, uncertainty, positive_only, an import path
    config.loss.ratio = 0.1  # gradient_ratio: share of the negative gradient
    config.loss.ramp = 0.1  # gradient_ratio: part of the training over which the share rises
    config.loss.decay = 0.95  # gradient_ratio: of the moving average, per step
    config.loss.maximum = 10.0  # gradient_ratio, uncertainty: largest weight
    config.loss.weight = 0.1  # fixed: the weight
    config.loss.rate = 0.01  # uncertainty: step size of the log-variances

    config.train = ConfigDict()
    config.train.steps = 700  # optimiser steps
    config.train.batch_size = 8  # crops per step, over all devices and micro-batches
    config.train.accumulate = 1  # micro-batches per step
    config.train.remat = 0  # gradient checkpointing, so many crops at a time; 0 for none
    config.train.learning_rate = 2e-3  # at the peak
    config.train.warmup = 0.05  # part of the training over which the rate rises
    config.train.final_rate = 0.01  # part of the peak at the end of the cosine
    config.train.weight_decay = 1e-4  # of kernels; biases are spared
    config.train.clip_norm = 1.0  # of the gradient, over all parameters
    config.train.ema_decay = 0.995  # of the averaged weights, per step

    config.eval = ConfigDict()
    config.eval.every = 350  # steps
    config.eval.data = ()  # name or name/split to judge by; () for the mixture's own dev splits
    config.eval.max_pairs = 8  # pairs of each, evenly spread; 0 for all
    config.eval.draws = 2  # dark versions of each photograph without a dark partner
    config.eval.seed = 0  # of those draws, whatever the training's seed and ranges are
    config.eval.brightness = (3.0, 80.0)  # as data.brightness, for those draws; of 255
    config.eval.snr = (5.0, 28.0)  # as data.snr, dB
    config.eval.cast = 0.1  # as data.cast, standard deviation of ln channel gain
    config.eval.veil = 0.05  # as data.veil, part of the mean dark light
    config.eval.tone = 0.1  # as data.tone, standard deviation of ln gamma
    config.eval.field = 0.2  # as data.field, standard deviation of coefficients
    config.eval.grain = 0.0  # as data.grain
    config.eval.scene = ()  # as data.scene

    config.checkpoint = ConfigDict()
    config.checkpoint.every = 350  # steps
    config.checkpoint.keep = 3  # newest kept, 2 or more, besides the best of those evaluated
    config.checkpoint.keep_every = 0  # keep each whose step divides by this as well; 0 for none
    config.checkpoint.grace = 30.0  # seconds from SIGTERM to the end, saved or not; 0 for no limit

    config.parallel = ConfigDict()
    config.parallel.strategy = "pmap"  # pmap, shard_map or single
    config.parallel.devices = 0  # how many of each process's own devices; 0 for all
    config.parallel.distributed = False  # several processes make one run, each started like this
    config.parallel.coordinator = ""  # HOST:PORT of process 0; '' for what SLURM, MPI or TPU says
    config.parallel.processes = 0  # how many there are; 0 for what SLURM, MPI or TPU says
    config.parallel.process = -1  # which of them this is, from 0; -1 for what they say
    config.parallel.patience = 300  # seconds to wait for all processes at the start
    config.parallel.heartbeat = 30  # seconds of silence after which a process is given up, and all

    config.log = ConfigDict()
    config.log.every = 25  # steps between rows of metrics.csv and TensorBoard scalars
    config.log.images = True  # TensorBoard images at every evaluation
    config.log.wandb = ""  # project of Weights & Biases to log to as well; '' for none
    config.log.profile = False  # trace steps 10 to 15, counted from any resumption, into profile/

    config.debug = ConfigDict()
    config.debug.nan = False  # look at every step, and replay one that is not finite uncompiled

    return config.lock()
