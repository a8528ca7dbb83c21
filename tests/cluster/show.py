"""What a test cluster shows of itself: pods across nodes, learned routes, a policy that holds."""

from collections.abc import Callable

from cluster import agents, workload
from cluster.cluster import Cluster

NAMESPACE = "demo"


def show(cluster: Cluster, say: Callable[[str], object]) -> None:
    """Run pods on the first two nodes and say who reaches whom. AssertionError where it is not as it should be."""
    first, second = (seat.name for seat in cluster.seats[:2])
    workload.apply(
        cluster,
        workload.namespace(NAMESPACE),
        workload.server("web", NAMESPACE, first),
        workload.server("friend", NAMESPACE, second, role="friend"),
        workload.server("stranger", NAMESPACE, second),
    )
    pods = workload.running(cluster, NAMESPACE)
    web, friend, stranger = pods["web"], pods["friend"], pods["stranger"]
    for client in (friend, stranger):
        workload.wait_connects(cluster, client, web.address)
        say(f"{client.name} on {second} reaches web on {first} at {web.address}")
    route = agents.kr(cluster, second, "explain", "--route", web.address).splitlines()[0]
    say(f"{second}: {route}")
    workload.apply(cluster, workload.only_from("web", NAMESPACE, {"app": "web"}, {"role": "friend"}))
    workload.wait_connects(cluster, stranger, web.address, wanted=False)
    say("with the policy the stranger does not reach web any more")
    workload.wait_connects(cluster, friend, web.address)
    say("and the friend does")
