"""Published ways to merge over time, by name: FoMo-in-Flux, arXiv 2408.14471, section 3, and TIME, arXiv 2412.06712."""

# name -> init, deploy and whether the pretrained weights are a member; techniques and weights are chosen apart
PRESETS: dict[str, dict] = {
    "finetune": {"init": "ft", "deploy": "ft"},
    "ema-merge": {"init": "ema", "deploy": "ema", "include_zs": True},
    "best-in-time": {"init": "ema", "deploy": "ema", "include_zs": True},
    "zs-merge": {"init": "zs", "deploy": "ema", "include_zs": True},
    "ft-merge": {"init": "ft", "deploy": "ft", "include_zs": True},
    "offline-merge": {"init": "zs", "deploy": "all", "include_zs": False},
    "offline-merge-zs": {"init": "zs", "deploy": "all", "include_zs": True},
    "independent": {"init": "zs", "deploy": "ft"},
    "double-merge-all-all": {"init": "all", "deploy": "all", "include_zs": False},
    "double-merge-all-ft": {"init": "all", "deploy": "ft", "include_zs": False},
    "double-merge-all-ema": {"init": "all", "deploy": "ema", "include_zs": False},
    "double-merge-ft-all": {"init": "ft", "deploy": "all", "include_zs": False},
    "double-merge-ft-ema": {"init": "ft", "deploy": "ema", "include_zs": False},
    "double-merge-ema-all": {"init": "ema", "deploy": "all", "include_zs": False},
    "double-merge-ema-ft": {"init": "ema", "deploy": "ft", "include_zs": False},
    "double-merge-zs-ema": {"init": "zs", "deploy": "ema", "include_zs": False},
}
