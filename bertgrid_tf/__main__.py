"""`python -m bertgrid_tf`: the same as the console script."""

from bertgrid_tf.cli import main

main()
