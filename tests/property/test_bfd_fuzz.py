"""Whatever comes, the BFD parser gives a packet or its one error, and a session stays sane."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from kube_router.plugins.routing.bgp.bfd_fsm import Machine
from kube_router.plugins.routing.bgp.bfd_wire import Control, Malformed, State, encode, parse
from kube_router.plugins.routing.bgp.model import BfdConfig

U32 = st.integers(0, 0xFFFFFFFF)
CONTROLS = st.builds(
    Control,
    state=st.sampled_from(State),
    detect_mult=st.integers(1, 255),
    my_discriminator=st.integers(1, 0xFFFFFFFF),
    your_discriminator=st.integers(1, 0xFFFFFFFF),
    desired_min_tx_us=U32,
    required_min_rx_us=U32,
    required_min_echo_rx_us=U32,
    diagnostic=st.integers(0, 31),
    poll=st.booleans(),
    final=st.booleans(),
    control_plane_independent=st.booleans(),
    demand=st.booleans(),
)
CONFIGS = st.builds(
    BfdConfig,
    detect_mult=st.integers(1, 255),
    desired_min_tx_ms=st.integers(10, 60_000),
    required_min_rx_ms=st.integers(10, 60_000),
)


@given(st.one_of(st.binary(max_size=300), st.binary(min_size=22, max_size=22).map(lambda rest: b"\x20\xc0" + rest)))
def test_any_bytes_are_a_packet_or_malformed(datagram: bytes) -> None:
    with suppress(Malformed):
        packet = parse(datagram)
        assert packet.my_discriminator
        assert packet.detect_mult


@given(CONTROLS)
def test_a_packet_survives_the_wire(control: Control) -> None:
    assert parse(encode(control)) == control


@given(CONTROLS, st.integers(0, 23), st.integers(0, 255))
def test_a_flipped_octet_is_another_packet_or_malformed(control: Control, octet: int, value: int) -> None:
    octets = bytearray(encode(control))
    octets[octet] = value
    with suppress(Malformed):
        assert encode(parse(bytes(octets))) == bytes(octets)


@given(
    CONFIGS,
    st.lists(st.tuples(st.one_of(CONTROLS, CONFIGS, st.none()), st.floats(0, 5), st.floats(0, 1)), max_size=30),
)
def test_a_session_survives_any_peer_and_is_never_busy(
    config: BfdConfig, steps: list[tuple[Control | BfdConfig | None, float, float]]
) -> None:
    machine, now = Machine(config, local_discriminator=1), 0.0
    for step, later, fraction in steps:
        now += later
        if isinstance(step, Control):
            answer = machine.receive(step, now)
            assert (answer is not None) == step.poll
        elif isinstance(step, BfdConfig):
            machine.configure(step)
        machine.expire(now)
        packet = machine.transmit(now, fraction)
        if packet is not None:
            assert parse(encode(packet)) == packet
            assert not packet.final
        assert machine.transmit(now, fraction) is None, "what was due has been done"
        assert machine.deadline() > now
        if machine.state is not State.UP:
            assert machine.transmit_interval_us() >= 1_000_000
