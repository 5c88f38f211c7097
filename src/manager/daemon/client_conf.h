// The daemon's secret: /secret/client.conf.
//
//   [aws_s3]                                    [alnair_manager]
//   aws_access_key_id = …                       server_address = manager.example.com
//   aws_secret_access_key = …                   server_port = 50051
//   aws_session_token, region_name,             username = alice
//   endpoint_url  (optional)                    password = …
//                                               tls_ca = /etc/ssl/manager.pem   (optional: then TLS is spoken)
//                                               tls_cert, tls_key = …           (optional: the client's certificate)
#pragma once

#include <string>

#include "alnair/dataset/job_client.h"

namespace alnair::manager {

// Throws ConfigError that names the file and the field; quotes no value.
ManagerOptions read_client_conf(const std::string& path);

}  // namespace alnair::manager
