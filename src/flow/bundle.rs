//! Sockets → host flows: direction, service port, owner.
