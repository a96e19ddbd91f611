"""The offline side: from labelled images to a released model. One module a stage of `dvc.yaml`, named as the stage."""
