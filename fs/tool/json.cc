// SPDX-License-Identifier: MIT
// JSON by Boost's property tree.
#include "fs/tool/json.h"

#define BOOST_BIND_GLOBAL_PLACEHOLDERS
#include <boost/property_tree/json_parser.hpp>
#include <boost/property_tree/ptree.hpp>
#include <sstream>

namespace moltfs::fs::tool {

using boost::property_tree::ptree;

std::optional<Json> Json::parse(const std::string& text) {
  auto tree = std::make_shared<ptree>();
  std::istringstream stream(text);
  try {
    boost::property_tree::read_json(stream, *tree);
  } catch (const boost::property_tree::json_parser_error&) {
    return std::nullopt;
  }
  return Json(std::move(tree));
}

std::string Json::text(const std::string& path) const {
  const std::string value = tree_->get<std::string>(path, "");
  return value == "null" ? std::string() : value;
}

uint64_t Json::number(const std::string& path) const {
  return optional_number(path).value_or(0);
}

double Json::real(const std::string& path) const {
  return tree_->get<double>(path, 0);
}

std::optional<uint64_t> Json::optional_number(const std::string& path) const {
  const auto value = tree_->get_optional<uint64_t>(path);
  return value ? std::optional<uint64_t>(*value) : std::nullopt;
}

std::vector<Json> Json::list(const std::string& path) const {
  std::vector<Json> elements;
  if (const auto child = tree_->get_child_optional(path)) {
    for (const auto& [key, value] : *child) {
      elements.push_back(Json(std::make_shared<const ptree>(value)));
    }
  }
  return elements;
}

}  // namespace moltfs::fs::tool
