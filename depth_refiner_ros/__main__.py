"""`python -m depth_refiner_ros`: the depth-refiner command."""

import sys

from .cli import main

if __name__ == '__main__':
    sys.exit(main())
