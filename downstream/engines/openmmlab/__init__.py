"""The only door to mmengine, mmcv, mmseg and mmdet.

Their modules are imported here and nowhere else, after `imports.prepare()` has put things in order for them.
"""
