"""``python -m kube_router.cli`` is ``kr``, where the scripts are not on the path."""

from kube_router.cli.main import main

main()
