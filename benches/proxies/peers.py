"""The proxies icegate is measured beside, each as its own documentation has it for an upstream that is kept alive."""

import pathlib

import warehouse


def nginx(home: pathlib.Path, port: int, upstream: int, tls: tuple[str, str] | None) -> str:
    listen = f"listen 127.0.0.1:{port} backlog=4096" + (" ssl;" if tls else ";")
    certificate = f"ssl_certificate {tls[0]}; ssl_certificate_key {tls[1]}; ssl_protocols TLSv1.3;" if tls else ""
    http = f"""  proxy_temp_path {home}/nginx-proxy;
  upstream warehouse {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    {listen} {certificate}
    location / {{
      proxy_pass http://warehouse;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffer_size 64k;
      proxy_buffers 16 64k;
      proxy_busy_buffers_size 256k;
      proxy_max_temp_file_size 0;
    }}
  }}"""
    return warehouse.nginx(home, "nginx", http)


def haproxy(home: pathlib.Path, port: int, upstream: int, tls: tuple[str, str] | None) -> str:
    certificate = ""
    if tls:
        both = home / "haproxy.pem"
        both.write_text(pathlib.Path(tls[0]).read_text() + pathlib.Path(tls[1]).read_text())
        certificate = f" ssl crt {both} ssl-min-ver TLSv1.3"
    return f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend drivers
  bind 127.0.0.1:{port}{certificate}
  default_backend warehouse
backend warehouse
  server one 127.0.0.1:{upstream}
"""


def envoy(port: int, upstream: int, tls: tuple[str, str] | None, authorizer: int | None) -> str:
    """With `authorizer`, every request is asked about there first (`ext_authz` over HTTP)."""
    ask = f"""
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              http_service:
                server_uri: {{ uri: "http://127.0.0.1:{authorizer}", cluster: authorizer, timeout: 5s }}
                path_prefix: /yes
""" if authorizer else ""
    secure = f"""
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3 }}
            tls_certificates:
            - certificate_chain: {{ filename: "{tls[0]}" }}
              private_key: {{ filename: "{tls[1]}" }}
""" if tls else ""

    def cluster(name, to):
        return f"""
  - name: {name}
    connect_timeout: 5s
    type: STATIC
    circuit_breakers: {{ thresholds: [{{ max_connections: 8192, max_pending_requests: 8192, max_requests: 8192 }}] }}
    load_assignment:
      cluster_name: {name}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {to} }} }} }} }}] }}]
"""

    return f"""
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: drivers
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: warehouse
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: warehouse, timeout: 0s }} }}]
          http_filters:{ask}
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
{secure}
  clusters:{cluster("warehouse", upstream)}{cluster("authorizer", authorizer) if authorizer else ""}
"""
