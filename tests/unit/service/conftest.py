import pytest
import zmq


@pytest.fixture
def context():
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def new(context):
    """Makes sockets that are closed at the end."""
    made = []

    def make(kind):
        made.append(context.socket(kind))
        return made[-1]

    yield make
    for socket in made:
        socket.close(linger=0)
