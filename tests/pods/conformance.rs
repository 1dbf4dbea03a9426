//! The volume tests of Kubernetes' own conformance suite and their neighbours, one test each under its name there.

use super::case::Case;
use super::stage::on_shared_stage;

fn all() -> Vec<Case> {
    super::cases("conformance")
}

macro_rules! tests {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                play(stringify!($name));
            }
        )*
    };
}

fn play(name: &str) {
    let name = format!("conformance::{name}");
    let case = all().into_iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"));
    on_shared_stage(|stage| stage.play(&case, &mut ()));
}

#[test]
fn every_case_is_a_test() {
    let cases = all();
    let names: Vec<&str> = cases.iter().filter_map(|case| case.name.strip_prefix("conformance::")).collect();
    assert_eq!(names, NAMES);
}

tests! {
    secrets_should_be_consumable_from_pods_in_volume
    secrets_with_default_mode_set
    secrets_as_non_root_with_default_mode_and_fs_group_set
    secrets_with_mappings
    secrets_with_mappings_and_item_mode_set
    secrets_regardless_of_another_of_the_same_name_in_another_namespace
    secrets_in_multiple_volumes_in_a_pod
    secrets_optional_updates_should_be_reflected_in_volume
    secrets_should_be_immutable_if_immutable_field_is_set
    secrets_should_fail_non_optional_pod_creation_due_to_secret_object_does_not_exist
    secrets_should_fail_non_optional_pod_creation_due_to_the_key_in_the_secret_object_does_not_exist
    config_map_should_be_consumable_from_pods_in_volume
    config_map_with_default_mode_set
    config_map_as_non_root_with_default_mode_and_fs_group_set
    config_map_as_non_root
    config_map_as_non_root_with_fs_group
    config_map_with_mappings
    config_map_with_mappings_and_item_mode_set
    config_map_with_mappings_as_non_root
    config_map_with_mappings_as_non_root_with_fs_group
    config_map_updates_should_be_reflected_in_volume
    config_map_binary_data_should_be_reflected_in_volume
    config_map_optional_updates_should_be_reflected_in_volume
    config_map_in_multiple_volumes_in_the_same_pod
    config_map_should_be_immutable_if_immutable_field_is_set
    config_map_should_fail_non_optional_pod_creation_due_to_config_map_object_does_not_exist
    config_map_should_fail_non_optional_pod_creation_due_to_the_key_in_the_config_map_object_does_not_exist
    projected_secret_should_be_consumable_from_pods_in_volume
    projected_secret_with_default_mode_set
    projected_secret_as_non_root_with_default_mode_and_fs_group_set
    projected_secret_with_mappings
    projected_secret_with_mappings_and_item_mode_set
    projected_secret_regardless_of_another_of_the_same_name_in_another_namespace
    projected_secret_in_multiple_volumes_in_a_pod
    projected_secret_optional_updates_should_be_reflected_in_volume
    projected_secret_should_fail_non_optional_pod_creation_due_to_secret_object_does_not_exist
    projected_secret_should_fail_non_optional_pod_creation_due_to_the_key_in_the_secret_object_does_not_exist
    projected_config_map_should_be_consumable_from_pods_in_volume
    projected_config_map_with_default_mode_set
    projected_config_map_as_non_root_with_default_mode_and_fs_group_set
    projected_config_map_as_non_root
    projected_config_map_as_non_root_with_fs_group
    projected_config_map_with_mappings
    projected_config_map_with_mappings_and_item_mode_set
    projected_config_map_with_mappings_as_non_root
    projected_config_map_with_mappings_as_non_root_with_fs_group
    projected_config_map_updates_should_be_reflected_in_volume
    projected_config_map_optional_updates_should_be_reflected_in_volume
    projected_config_map_in_multiple_volumes_in_the_same_pod
    projected_config_map_should_fail_non_optional_pod_creation_due_to_config_map_object_does_not_exist
    projected_config_map_should_fail_non_optional_pod_creation_due_to_the_key_in_the_config_map_object_does_not_exist
    projected_combined_should_project_all_components_that_make_up_the_projection_api
    downward_api_volume_should_provide_podname_only
    downward_api_volume_should_set_default_mode_on_files
    downward_api_volume_should_set_mode_on_item_file
    downward_api_volume_should_provide_podname_as_non_root_with_fs_group
    downward_api_volume_should_provide_podname_as_non_root_with_fs_group_and_default_mode
    downward_api_volume_should_update_labels_on_modification
    downward_api_volume_should_update_annotations_on_modification
    downward_api_volume_should_provide_containers_cpu_limit
    downward_api_volume_should_provide_containers_memory_limit
    downward_api_volume_should_provide_containers_cpu_request
    downward_api_volume_should_provide_containers_memory_request
    downward_api_volume_should_provide_node_allocatable_cpu_as_default_cpu_limit
    downward_api_volume_should_provide_node_allocatable_memory_as_default_memory_limit
    projected_downward_api_should_provide_podname_only
    projected_downward_api_should_set_default_mode_on_files
    projected_downward_api_should_set_mode_on_item_file
    projected_downward_api_should_provide_podname_as_non_root_with_fs_group
    projected_downward_api_should_provide_podname_as_non_root_with_fs_group_and_default_mode
    projected_downward_api_should_update_labels_on_modification
    projected_downward_api_should_update_annotations_on_modification
    projected_downward_api_should_provide_containers_cpu_limit
    projected_downward_api_should_provide_containers_memory_limit
    projected_downward_api_should_provide_containers_cpu_request
    projected_downward_api_should_provide_containers_memory_request
    projected_downward_api_should_provide_node_allocatable_cpu_as_default_cpu_limit
    projected_downward_api_should_provide_node_allocatable_memory_as_default_memory_limit
    service_accounts_should_mount_an_api_token_into_pods
    service_accounts_should_allow_opting_out_default_account_unset_pod
    service_accounts_should_allow_opting_out_mount_account_unset_pod
    service_accounts_should_allow_opting_out_nomount_account_unset_pod
    service_accounts_should_allow_opting_out_default_account_mount_pod
    service_accounts_should_allow_opting_out_mount_account_mount_pod
    service_accounts_should_allow_opting_out_nomount_account_mount_pod
    service_accounts_should_allow_opting_out_default_account_nomount_pod
    service_accounts_should_allow_opting_out_mount_account_nomount_pod
    service_accounts_should_allow_opting_out_nomount_account_nomount_pod
    service_accounts_should_mount_projected_service_account_token
    service_accounts_should_set_ownership_and_permission_when_run_as_user_is_present
    service_accounts_should_set_ownership_and_permission_when_fs_group_is_present
    service_accounts_should_set_ownership_and_permission_when_both_are_present
    service_accounts_should_set_ownership_and_permission_when_none_is_present
    cluster_trust_bundle_should_be_able_to_mount_by_name
    cluster_trust_bundle_should_be_able_to_mount_by_signer_name
    cluster_trust_bundle_should_start_if_only_optional_is_missing
    cluster_trust_bundle_should_prevent_pod_start_if_missing
    subpath_should_support_subpaths_with_secret_pod
    subpath_should_support_subpaths_with_configmap_pod
    subpath_should_support_subpaths_with_configmap_pod_with_mount_path_of_existing_file
    subpath_should_support_subpaths_with_downward_pod
    subpath_should_support_subpaths_with_projected_pod
    subpath_container_can_restart_successfully_after_configmaps_modified
    empty_dir_wrapper_volumes_should_not_conflict
}
