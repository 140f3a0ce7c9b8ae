// SPDX-License-Identifier: MIT
// Reading the JSON that the daemon answers with.
#pragma once

#include <boost/property_tree/ptree_fwd.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moltfs::fs::tool {

class Json {
 public:
  /// Nothing if `text` is not JSON.
  static std::optional<Json> parse(const std::string& text);

  /// The value at "a.b.c": empty, 0 or nothing if there is none, or it is null.
  std::string text(const std::string& path) const;
  uint64_t number(const std::string& path) const;
  double real(const std::string& path) const;
  std::optional<uint64_t> optional_number(const std::string& path) const;
  /// Elements of the list at `path`.
  std::vector<Json> list(const std::string& path) const;

 private:
  explicit Json(std::shared_ptr<const boost::property_tree::ptree> tree) : tree_(std::move(tree)) {}
  std::shared_ptr<const boost::property_tree::ptree> tree_;
};

}  // namespace moltfs::fs::tool
