"""Who is who: certificates, enrolment, operators, and what each of them may call.

A device is known by its key. It makes the key, asks for a certificate with the fleet's enrolment
credential, and has one once an operator (or a rule) has accepted the key. The certificate gets it
through TLS; whether the key is still accepted is asked in the registry at every call, so a
revocation counts at once, on every server of the fleet.

    certificates  what is in a certificate (pure)
    authority     HOME/tls: the authorities' keys, the server's certificate, HOME/ca.pem
    access        who may call what (pure), and the interceptor that asks
    enrollment    requests, acceptance, revocation
"""
