#include "s3/credentials/chain.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "alnair/core/error.h"
#include "s3/credential_world.h"
#include "s3/credentials/process.h"
#include "s3/credentials/profiles.h"

namespace alnair {
namespace {

using ::testing::AllOf;
using testing::CredentialWorld;
using testing::FakeHttp;
using ::testing::HasSubstr;
using testing::http_answer;
using ::testing::Not;

std::string header(const HttpRequest& request, std::string_view name) {
  return std::string(request.headers.find(name).value_or("(absent)"));
}

TEST(CredentialChain, TakesTheEnvironmentFirst) {
  CredentialWorld world;
  world.write(".aws/credentials", "[default]\naws_access_key_id=FILE\naws_secret_access_key=f\n");
  world.environment["AWS_ACCESS_KEY_ID"] = "ENV";
  world.environment["AWS_SECRET_ACCESS_KEY"] = "e";
  world.environment["AWS_SESSION_TOKEN"] = "t";
  const LoadedCredentials loaded = world.load();
  EXPECT_EQ(loaded.keys.access_key_id, "ENV");
  EXPECT_EQ(loaded.keys.secret_access_key, "e");
  EXPECT_EQ(loaded.keys.session_token, "t");
  EXPECT_FALSE(loaded.expires);
  EXPECT_EQ(world.load("default").keys.access_key_id,
            "FILE");  // a profile that was asked for comes before it
}

TEST(CredentialChain, RefusesHalfAPairOfKeys) {
  CredentialWorld world;
  world.environment["AWS_ACCESS_KEY_ID"] = "ENV";
  EXPECT_THAT(world.failure<ConfigError>(), HasSubstr("AWS_SECRET_ACCESS_KEY is not"));
  world.environment = {{"HOME", world.environment["HOME"]}, {"AWS_SECRET_ACCESS_KEY", "sesame"}};
  EXPECT_THAT(world.failure<ConfigError>(),
              AllOf(HasSubstr("AWS_ACCESS_KEY_ID is not"), Not(HasSubstr("sesame"))));
  world.environment.erase("AWS_SECRET_ACCESS_KEY");
  world.write(".aws/credentials", "[default]\naws_access_key_id=FILE\n");
  EXPECT_THAT(world.failure<ConfigError>(), AllOf(HasSubstr(world.path(".aws/credentials") + ", line 2"),
                                                  HasSubstr("no aws_secret_access_key beside it")));
}

TEST(CredentialChain, RefusesKeysOfTheEnvironmentWithALineBreak) {
  for (const char* name : {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}) {
    CredentialWorld world;
    world.environment["AWS_ACCESS_KEY_ID"] = "ID";
    world.environment["AWS_SECRET_ACCESS_KEY"] = "s";
    world.environment[name] += "sesame\n";
    EXPECT_THAT(world.failure<ConfigError>(), AllOf(HasSubstr(fmt::format("{} has a control", name)), Not(HasSubstr("sesame"))));
  }
}

TEST(CredentialChain, MergesBothFilesOfAProfile) {
  CredentialWorld world;
  world.write(".aws/credentials", "[dev]\naws_access_key_id = A\naws_secret_access_key = s\n");
  world.write(".aws/config",
              "[default]\nregion=r0\n[profile dev]\naws_access_key_id=B\nregion = eu-west-1\ns3 =\n  "
              "addressing_style = path\n");
  world.environment["AWS_PROFILE"] = "dev";
  EXPECT_EQ(world.load().keys.access_key_id, "A");
  const ProfileSettings settings = load_profile_settings("", world.context());
  EXPECT_EQ(settings.region, "eu-west-1");
  EXPECT_EQ(settings.addressing_style, "path");
  EXPECT_EQ(load_profile_settings("default", world.context()).region, "r0");
}

TEST(CredentialChain, FindsTheFilesThatTheEnvironmentNames) {
  CredentialWorld world;
  world.write("creds", "[default]\naws_access_key_id=A\naws_secret_access_key=s\n");
  world.write("conf", "[profile \"my dev\"]\nregion=r1\n");
  world.environment["AWS_SHARED_CREDENTIALS_FILE"] = "~/creds";
  world.environment["AWS_CONFIG_FILE"] = world.path("conf");
  EXPECT_EQ(world.load().keys.access_key_id, "A");
  EXPECT_EQ(load_profile_settings("my dev", world.context()).region, "r1");
}

TEST(CredentialChain, NamesTheProfilesThereAreWhenOneIsMissing) {
  CredentialWorld world;
  world.write(".aws/config", "[profile dev]\nregion=r\n[sso-session x]\n[default]\n");
  EXPECT_THAT(
      world.failure<ConfigError>("prod"),
      AllOf(HasSubstr("no AWS profile 'prod'"), HasSubstr("default, dev"), Not(HasSubstr("sso-session"))));
  world.environment["AWS_PROFILE"] = "prod";
  EXPECT_THAT(world.failure<ConfigError>(), HasSubstr("no AWS profile 'prod'"));
  world.write(".aws/config", "[prod]\nregion=r\n");
  EXPECT_THAT(world.failure<ConfigError>(), HasSubstr("write [profile prod] instead of [prod] there"));
}

TEST(CredentialChain, SaysWhereAFileIsMalformed) {
  CredentialWorld world;
  world.write(".aws/credentials", "[default]\nsesame\n");
  EXPECT_THAT(world.failure<ConfigError>(),
              AllOf(HasSubstr(world.path(".aws/credentials") + ", line 2"), Not(HasSubstr("sesame"))));
}

TEST(CredentialChain, SaysEverywhereItLookedAndHowToDoWithout) {
  CredentialWorld world;
  EXPECT_THAT(world.failure<ConfigError>(),
              AllOf(HasSubstr("AWS_ACCESS_KEY_ID is not set"),
                    HasSubstr("profile 'default' in " + world.path(".aws/credentials")),
                    HasSubstr(world.path(".aws/config")), HasSubstr("AWS_WEB_IDENTITY_TOKEN_FILE"),
                    HasSubstr("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
                    HasSubstr("http://169.254.169.254: no answer: Connection timed out"),
                    HasSubstr("ALNAIR_ANONYMOUS=true")));
  world.environment["AWS_EC2_METADATA_DISABLED"] = "true";
  EXPECT_THAT(world.failure<ConfigError>(), HasSubstr("AWS_EC2_METADATA_DISABLED is set"));
  EXPECT_EQ(world.http->requests().size(), 1u);
}

TEST(CredentialChain, AssumesARoleWithTheKeysOfASourceProfile) {
  CredentialWorld world;
  world.write(".aws/credentials",
              "[base]\naws_access_key_id=BASE\naws_secret_access_key=sesame\naws_session_token=bt\n");
  world.write(".aws/config",
              "[profile role]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nexternal_id = e&1\n"
              "role_session_name = me\nduration_seconds = 900\nregion = eu-west-1\n");
  world.http = std::make_shared<FakeHttp>(
      [](const HttpRequest&) { return http_answer(200, testing::sts_answer("AssumeRole", "ROLE")); });
  const LoadedCredentials loaded = world.load("role");
  EXPECT_EQ(loaded.keys.access_key_id, "ROLE");
  EXPECT_EQ(loaded.keys.session_token, "role-token");
  EXPECT_EQ(loaded.expires, SystemTime(std::chrono::seconds(1'893'456'000)));
  ASSERT_EQ(world.http->requests().size(), 1u);
  const HttpRequest request = world.http->requests()[0];
  EXPECT_EQ(request.url, "https://sts.eu-west-1.amazonaws.com/");
  EXPECT_EQ(request.body,
            "Action=AssumeRole&DurationSeconds=900&ExternalId=e%261&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"
            "&RoleSessionName=me&Version=2011-06-15");
  EXPECT_THAT(header(request, "Authorization"),
              AllOf(HasSubstr("Credential=BASE/20231114/eu-west-1/sts/aws4_request"),
                    HasSubstr("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token")));
  EXPECT_EQ(header(request, "X-Amz-Security-Token"), "bt");
}

TEST(CredentialChain, FollowsAChainOfRoles) {
  CredentialWorld world;
  world.write(".aws/config",
              "[profile a]\nrole_arn=arn:a\nsource_profile=b\n[profile b]\nrole_arn=arn:b\nsource_profile=b\n"
              "aws_access_key_id=KEYS\naws_secret_access_key=s\n");
  world.http = std::make_shared<FakeHttp>([](const HttpRequest& request) {
    return http_answer(200, testing::sts_answer(
                                "AssumeRole", request.body.find("arn%3Aa") != std::string::npos ? "A" : "B"));
  });
  EXPECT_EQ(world.load("b").keys.access_key_id, "B");  // its own source
  EXPECT_EQ(world.load("a").keys.access_key_id, "A");  // b has keys: they are used, not b's role
  EXPECT_EQ(world.http->requests().size(), 2u);
  EXPECT_THAT(header(world.http->requests()[1], "Authorization"), HasSubstr("Credential=KEYS/"));
}

TEST(CredentialChain, DetectsProfilesThatReferToEachOther) {
  CredentialWorld world;
  world.write(".aws/config",
              "[profile a]\nrole_arn=x\nsource_profile=b\n[profile b]\nrole_arn=y\nsource_profile=a\n");
  EXPECT_THAT(world.failure<ConfigError>("a"), HasSubstr("in a circle: a -> b -> a"));
}

TEST(CredentialChain, SaysWhatIsWrongWithARole) {
  CredentialWorld world;
  const auto failure = [&](const std::string& lines) {
    world.write(".aws/config", "[profile p]\nrole_arn = x\n" + lines + "[profile empty]\nregion=r\n");
    return world.failure<ConfigError>("p");
  };
  EXPECT_THAT(failure(""), AllOf(HasSubstr("line 2"), HasSubstr("needs source_profile")));
  EXPECT_THAT(failure("source_profile = q\n"), AllOf(HasSubstr("line 3"), HasSubstr("no profile 'q'")));
  EXPECT_THAT(failure("source_profile = empty\n"), HasSubstr("profile 'empty' has no credentials"));
  EXPECT_THAT(failure("source_profile = empty\ncredential_source = Environment\n"), HasSubstr("not both"));
  EXPECT_THAT(failure("credential_source = Thin air\n"), HasSubstr("none of Environment"));
  EXPECT_THAT(failure("credential_source = Environment\n"),
              HasSubstr("no credentials of the kind Environment"));
  EXPECT_THAT(failure("credential_source = Environment\nduration_seconds = 1h\n"),
              HasSubstr("no positive whole number"));
  EXPECT_THAT(failure("source_profile = empty\nmfa_serial = m\n"),
              AllOf(HasSubstr("MFA"), HasSubstr("credential_process")));
}

TEST(CredentialChain, SaysWhatStsSays) {
  CredentialWorld world;
  world.write(".aws/config",
              "[profile p]\nrole_arn = arn:r\nsource_profile = "
              "p\naws_access_key_id=K\naws_secret_access_key=sesame\n");
  world.http = std::make_shared<FakeHttp>([](const HttpRequest&) {
    return http_answer(
        403,
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error></ErrorResponse>");
  });
  EXPECT_THAT(world.failure<AccessError>("p"),
              AllOf(HasSubstr("arn:r"), HasSubstr("AccessDenied: not you"), Not(HasSubstr("sesame"))));
  world.http = std::make_shared<FakeHttp>([](const HttpRequest&) { return http_answer(503, ""); });
  EXPECT_THAT(world.failure<SourceError>("p"), HasSubstr("HTTP status 503"));
  EXPECT_EQ(world.http->requests().size(), 3u);  // tried again
}

TEST(CredentialChain, TakesCredentialsForARoleFromTheEnvironment) {
  CredentialWorld world;
  world.write(".aws/config", "[profile p]\nrole_arn = arn:r\ncredential_source = Environment\n");
  world.environment["AWS_ACCESS_KEY_ID"] = "ENV";
  world.environment["AWS_SECRET_ACCESS_KEY"] = "e";
  world.environment["AWS_ENDPOINT_URL_STS"] = "http://127.0.0.1:9000/sts";
  world.http = std::make_shared<FakeHttp>(
      [](const HttpRequest&) { return http_answer(200, testing::sts_answer("AssumeRole", "ROLE")); });
  EXPECT_EQ(world.load("p").keys.access_key_id, "ROLE");
  EXPECT_EQ(world.http->requests()[0].url, "http://127.0.0.1:9000/sts/");
  EXPECT_THAT(header(world.http->requests()[0], "Authorization"),
              HasSubstr("Credential=ENV/20231114/us-east-1/sts"));
}

TEST(CredentialChain, TakesWebIdentityFromTheEnvironmentOrAProfile) {
  CredentialWorld world;
  world.write("token", "web-token\n");
  world.http = std::make_shared<FakeHttp>([](const HttpRequest&) {
    return http_answer(200, testing::sts_answer("AssumeRoleWithWebIdentity", "WEB"));
  });
  world.environment["AWS_WEB_IDENTITY_TOKEN_FILE"] = world.path("token");
  EXPECT_THAT(world.failure<ConfigError>(), HasSubstr("AWS_ROLE_ARN is not"));
  world.environment["AWS_ROLE_ARN"] = "arn:w";
  EXPECT_EQ(world.load("", "us-west-2").keys.access_key_id, "WEB");
  const HttpRequest request = world.http->requests()[0];
  EXPECT_EQ(request.url, "https://sts.us-west-2.amazonaws.com/");
  EXPECT_EQ(
      request.body,
      "Action=AssumeRoleWithWebIdentity&RoleArn=arn%3Aw&RoleSessionName=alnair-1700000000&Version=2011-06-15"
      "&WebIdentityToken=web-token");
  EXPECT_EQ(header(request, "Authorization"), "(absent)");

  world.environment.erase("AWS_WEB_IDENTITY_TOKEN_FILE");
  world.environment.erase("AWS_ROLE_ARN");
  world.write(".aws/config",
              "[profile w]\nrole_arn = arn:w\nweb_identity_token_file = ~/token\nrole_session_name = s\n");
  EXPECT_EQ(world.load("w").keys.access_key_id, "WEB");
  world.write("token", "");
  EXPECT_THAT(world.failure<ConfigError>("w"), HasSubstr(world.path("token") + " is empty"));
}

TEST(CredentialChain, AsksTheContainersService) {
  CredentialWorld world;
  world.environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/v2/credentials/1";
  world.http = std::make_shared<FakeHttp>(
      [](const HttpRequest&) { return http_answer(200, testing::metadata_answer("ECS")); });
  EXPECT_EQ(world.load().keys.access_key_id, "ECS");
  EXPECT_EQ(world.http->requests()[0].url, "http://169.254.170.2/v2/credentials/1");
  EXPECT_FALSE(world.http->requests()[0].use_proxy);

  world.environment.erase("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  world.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://169.254.170.23/v1/credentials?x=1";
  world.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "inline";
  EXPECT_EQ(world.load().keys.access_key_id, "ECS");
  EXPECT_EQ(header(world.http->requests()[1], "Authorization"), "inline");
  world.write("token", "from-file\n");
  world.environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = world.path("token");
  EXPECT_EQ(world.load().keys.access_key_id, "ECS");
  EXPECT_EQ(header(world.http->requests()[2], "Authorization"), "from-file");
  world.write("token", "two\nlines\n");
  EXPECT_THAT(world.failure<ConfigError>(), AllOf(HasSubstr("control character"), Not(HasSubstr("lines"))));
}

TEST(CredentialChain, SendsTheContainersTokenNowhereElse) {
  CredentialWorld world;
  for (const char* url :
       {"http://example.com/c", "http://10.0.0.1/c", "http://127.evil.com/c", "ftp://localhost/c"}) {
    world.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = url;
    EXPECT_THAT(world.failure<ConfigError>(), HasSubstr("AWS_CONTAINER_CREDENTIALS_FULL_URI")) << url;
  }
  EXPECT_TRUE(world.http->requests().empty());
}

TEST(CredentialChain, DoesNotPassOverAContainerThatFails) {
  CredentialWorld world;
  world.environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://localhost:1/c";
  EXPECT_THAT(world.failure<SourceError>(), HasSubstr("Connection timed out"));
  world.http = std::make_shared<FakeHttp>([](const HttpRequest&) { return http_answer(200, "{}"); });
  EXPECT_THAT(world.failure<SourceError>(), HasSubstr("no valid AccessKeyId"));
}

HttpResponse instance_metadata(const HttpRequest& request) {
  const std::string path = request.url.substr(request.url.find('/', 8));
  if (path == "/latest/api/token")
    return request.method == HttpMethod::kPut && request.headers.find("x-aws-ec2-metadata-token-ttl-seconds")
               ? http_answer(200, "TOKEN")
               : http_answer(400, "");
  if (request.headers.find("x-aws-ec2-metadata-token") != "TOKEN") return http_answer(401, "");
  if (path == "/latest/meta-data/iam/security-credentials/") return http_answer(200, "my-role\n");
  if (path == "/latest/meta-data/iam/security-credentials/my-role")
    return http_answer(200, testing::metadata_answer("EC2"));
  return http_answer(404, "");
}

TEST(CredentialChain, AsksTheInstanceLast) {
  CredentialWorld world;
  world.http = std::make_shared<FakeHttp>(instance_metadata);
  const LoadedCredentials loaded = world.load();
  EXPECT_EQ(loaded.keys.access_key_id, "EC2");
  EXPECT_EQ(loaded.keys.session_token, "t");
  EXPECT_EQ(world.http->requests()[0].url, "http://169.254.169.254/latest/api/token");
  EXPECT_LE(world.http->requests()[0].timeout, std::chrono::seconds(1));
  world.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://[::1]:81/";
  EXPECT_EQ(world.load().keys.access_key_id, "EC2");
  EXPECT_EQ(world.http->requests()[3].url, "http://[::1]:81/latest/api/token");
}

TEST(CredentialChain, KnowsAnInstanceWithoutARole) {
  CredentialWorld world;
  world.http = std::make_shared<FakeHttp>([](const HttpRequest& request) {
    return request.method == HttpMethod::kPut ? http_answer(200, "TOKEN") : http_answer(404, "");
  });
  EXPECT_THAT(world.failure<ConfigError>(), HasSubstr("the instance has no role"));
}

TEST(CredentialChain, RunsACredentialProcess) {
  CredentialWorld world;
  world.write("tool",
              "#!/bin/sh\nprintf '{\"Version\": 1, \"AccessKeyId\": \"%s\", \"SecretAccessKey\": \"s\", "
              "\"SessionToken\": \"t\", \"Expiration\": \"2030-01-01T00:00:00+00:00\"}' \"$1\"\n");
  std::filesystem::permissions(world.path("tool"), std::filesystem::perms::owner_all);
  world.write(".aws/config",
              fmt::format("[default]\ncredential_process = \"{}\" 'two words'\n", world.path("tool")));
  const LoadedCredentials loaded = world.load();
  EXPECT_EQ(loaded.keys.access_key_id, "two words");
  EXPECT_EQ(loaded.expires, SystemTime(std::chrono::seconds(1'893'456'000)));
}

std::string process_failure(const std::string& command,
                            std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
  try {
    run_credential_process(command, "f, line 3", {}, timeout);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "(no ConfigError)";
}

TEST(CredentialProcess, SaysHowItFailed) {
  EXPECT_THAT(process_failure("exit 3"), AllOf(HasSubstr("f, line 3"), HasSubstr("status 3")));
  EXPECT_THAT(process_failure("/nonexistent/tool 2>/dev/null"), HasSubstr("not found"));
  EXPECT_THAT(process_failure("kill -9 $$"), HasSubstr("signal 9"));
  EXPECT_THAT(process_failure("echo sesame"), AllOf(HasSubstr("no JSON object"), Not(HasSubstr("sesame"))));
  EXPECT_THAT(process_failure("echo '[1]'"), HasSubstr("no JSON object"));
  EXPECT_THAT(process_failure("echo '{\"Version\": 2}'"), HasSubstr("without \"Version\": 1"));
  EXPECT_THAT(process_failure("echo '{\"Version\": 1}'"), HasSubstr("without \"AccessKeyId\""));
  EXPECT_THAT(process_failure("echo '{\"Version\": 1, \"AccessKeyId\": \"k\", \"SecretAccessKey\": 5}'"),
              HasSubstr("without \"SecretAccessKey\""));
  EXPECT_THAT(process_failure("echo '{\"Version\": 1, \"AccessKeyId\": \"k\", \"SecretAccessKey\": \"s\", "
                              "\"Expiration\": \"soon\"}'"),
              HasSubstr("Expiration"));
  EXPECT_THAT(process_failure("yes"), HasSubstr("more than 65536 bytes"));
}

TEST(CredentialProcess, IsKilledWithItsChildrenWhenItTakesTooLong) {
  EXPECT_THAT(process_failure("sleep 1000 | cat", std::chrono::milliseconds(50)),
              HasSubstr("did not end within 0.05 s"));
  EXPECT_THAT(process_failure("exec >&-; sleep 1000", std::chrono::milliseconds(50)),
              HasSubstr("did not end"));
}

TEST(CredentialProcess, IsKilledWhenTheWaitIsInterrupted) {
  struct Stop {};
  EXPECT_THROW(run_credential_process("sleep 1000", "f", [] { throw Stop(); }), Stop);
}

TEST(CredentialProcess, EndsWithTheProcessThatWaitsForIt) {
  int alive[2];  // whoever lives has the end that is written to
  ASSERT_EQ(pipe(alive), 0);
  const pid_t program = fork();
  if (program == 0) {
    close(alive[0]);
    std::thread([] { process_failure("sleep 1000 | cat"); }).detach();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    std::exit(0);
  }
  close(alive[1]);
  int status = 0;
  EXPECT_EQ(waitpid(program, &status, 0), program);
  pollfd ended{alive[0], POLLIN, 0};
  EXPECT_EQ(poll(&ended, 1, 20'000), 1);
  EXPECT_TRUE(ended.revents & POLLHUP);
  close(alive[0]);
}

TEST(CredentialChain, NamesTheWayOutOfSso) {
  CredentialWorld world;
  world.write(".aws/config",
              "[profile corp]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n[sso-session "
              "s]\nsso_start_url = https://x\n");
  EXPECT_THAT(
      world.failure<ConfigError>("corp"),
      AllOf(
          HasSubstr("line 2"),
          HasSubstr("credential_process = aws configure export-credentials --profile corp --format process"),
          HasSubstr("aws sso login --profile corp")));
}

TEST(ProfileSettings, HaveTheEndpointsOfServices) {
  CredentialWorld world;
  world.write(".aws/config",
              "[profile a]\nendpoint_url = http://all\nservices = mine\nca_bundle = ~/ca.pem\n[services "
              "mine]\ns3 =\n  endpoint_url = http://s3\n"
              "[profile b]\nendpoint_url = http://all\n[profile c]\nservices = absent\n");
  EXPECT_EQ(load_profile_settings("a", world.context()).endpoint_url, "http://s3");
  EXPECT_EQ(load_profile_settings("a", world.context()).ca_bundle, world.path("ca.pem"));
  EXPECT_EQ(load_profile_settings("b", world.context()).endpoint_url, "http://all");
  EXPECT_THROW(load_profile_settings("c", world.context()), ConfigError);
  world.environment["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "true";
  EXPECT_EQ(load_profile_settings("a", world.context()).endpoint_url, "");
}

}  // namespace
}  // namespace alnair
