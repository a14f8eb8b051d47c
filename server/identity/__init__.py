"""Who is who: certificates, enrolment, operators, and what each of them may call.

A device is known by its key. It makes the key, asks for a certificate with the fleet's enrolment
credential, and has one once an operator (or a rule) has accepted the key. The certificate gets it
through TLS; whether the key is still accepted is asked in the registry at every call, so a
revocation counts at once, on every server of the fleet.

    certificates, keys   what is in a certificate; what becomes of a device's key (pure)
    access               who may call what (pure); `gate` asks it at every call, `caller` remembers
    authority            HOME/tls: the authorities' keys, the server's certificate, HOME/ca.pem
    credentials          what gRPC needs to speak TLS
    fleet                a fleet's beginning: its keys, and what all of its servers go by
    service              what devices call: requests, renewals
    operator_service     what operators call; `desk` is the same for a home of this machine

Not for: the rows, which are in server.registry.identities and .operators.
"""
