#include "manager/config/config.h"

#include <gmock/gmock.h>

#include <fstream>

#include "alnair/core/error.h"
#include "support/temporary_directory.h"

namespace alnair::manager {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class ConfigTest : public ::testing::Test {
 protected:
  std::string write(const std::string& text) {
    const std::string path = directory_ / "manager.conf";
    std::ofstream(path) << text;
    return path;
  }
  std::string error_of(const std::string& text, const std::map<std::string, std::string>& environment = {}) {
    try {
      load_config(write(text), environment);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "(no ConfigError)";
  }
  testing::TemporaryDirectory directory_;
};

TEST_F(ConfigTest, HasDefaultsForEverything) {
  const Config config = load_config("", {});
  EXPECT_EQ(config.bind, "127.0.0.1");
  EXPECT_EQ(config.port, 50051);
  EXPECT_EQ(config.token_life, 600u);
  EXPECT_EQ(config.flush_policy, "recency");
  EXPECT_FALSE(config.state_dir.empty());
  EXPECT_EQ(config.seal_key_file, config.state_dir + "/seal.key");
}

TEST_F(ConfigTest, IsReadFromAFileAndTheEnvironmentWins) {
  const std::string file =
      write("[manager]\nport = 7001\ntoken_life = 30\nstate_dir = /s\n[limits]\nmax_body = 2048\n");
  const Config config = load_config(file, {{"ALNAIR_MANAGER_PORT", "7002"}, {"ALNAIR_MANAGER_LIMITS_LISTINGS", "2"}});
  EXPECT_EQ(config.port, 7002);
  EXPECT_EQ(config.token_life, 30u);
  EXPECT_EQ(config.max_body, 2048u);
  EXPECT_EQ(config.listings, 2u);
  EXPECT_EQ(config.state_dir, "/s");
}

TEST_F(ConfigTest, SuggestsTheNearNameOfWhatIsUnknown) {
  EXPECT_THAT(error_of("[manager]\ntokenlife = 3\n"),
              AllOf(HasSubstr("manager.conf, line 2, tokenlife"), HasSubstr("did you mean token_life?")));
  EXPECT_THAT(error_of("[limit]\n"),
              AllOf(HasSubstr("line 1"), HasSubstr("[limit]"), HasSubstr("did you mean limits?")));
  EXPECT_THAT(error_of("", {{"ALNAIR_MANAGER_PROT", "1"}}),
              AllOf(HasSubstr("ALNAIR_MANAGER_PROT"), HasSubstr("did you mean ALNAIR_MANAGER_PORT?")));
}

TEST_F(ConfigTest, RefusesValuesThatDoNotFit) {
  EXPECT_THAT(error_of("[manager]\nport = 65536\n"), AllOf(HasSubstr("line 2, port"), HasSubstr("from 0 to 65535")));
  EXPECT_THAT(error_of("[manager]\nport = 12x\n"), HasSubstr("a number of a port"));
  EXPECT_THAT(error_of("[manager]\ncreate_clients = maybe\n"), HasSubstr("true or false"));
  EXPECT_THAT(error_of("[manager]\nstate_dir = here\n"), HasSubstr("an absolute path"));
  EXPECT_THAT(error_of("[manager]\nlog_format = xml\n"), HasSubstr("text or json"));
  for (const char* address : {"localhost", "300.1.1.1", "", "127.0.0.1:5"})
    EXPECT_THAT(error_of(std::string("[manager]\nbind = ") + address), HasSubstr("line 2, bind: expected an address in numbers"));
  EXPECT_THROW(load_config(directory_ / "absent", {}), ConfigError);
}

TEST_F(ConfigTest, KeepsTheSealKeyToItself) {
  const std::string key(64, 'a');
  EXPECT_THAT(error_of("[manager]\nseal_key = " + key + "\n"),
              AllOf(HasSubstr("ALNAIR_MANAGER_SEAL_KEY"), Not(HasSubstr(key))));
  EXPECT_THAT(error_of("", {{"ALNAIR_MANAGER_SEAL_KEY", "sesame"}}), AllOf(HasSubstr("64"), Not(HasSubstr("sesame"))));
  for (const ConfigValue& value : config_values(load_config("", {{"ALNAIR_MANAGER_SEAL_KEY", key}}))) {
    if (value.key == "seal_key") {
      EXPECT_EQ(value.value, "(hidden)");
    }
  }
}

}  // namespace
}  // namespace alnair::manager
