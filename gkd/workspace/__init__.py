"""What the notebooks of the pipeline and the command stand on: parameters checked, members, their folders and inputs.

Imported before torch, it hastens the imports that follow and the end of the process.
"""

import atexit
import gc

# Modules stay: to search them for garbage takes a second while they are imported, and more at exit, where papermill
# waits for it, or kills the kernel after five.
gc.set_threshold(10_000)
atexit.register(gc.freeze)
