# What `cmake --install` puts where: the library, its public headers, and the package that find_package(alnair) reads.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/alnair)

install(TARGETS alnair EXPORT alnairTargets COMPONENT alnair)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/alnair DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT alnair
        FILES_MATCHING PATTERN "*.h")
install(EXPORT alnairTargets NAMESPACE alnair:: DESTINATION ${package_dir} COMPONENT alnair)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/alnairConfig.cmake.in ${PROJECT_BINARY_DIR}/alnairConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/alnairConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/alnairConfig.cmake ${PROJECT_BINARY_DIR}/alnairConfigVersion.cmake
              ${CMAKE_CURRENT_LIST_DIR}/FindBLAKE3.cmake
        DESTINATION ${package_dir} COMPONENT alnair)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT alnair)
